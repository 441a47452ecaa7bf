"""Rows whose role has models of several training seeds: each makes one block of the row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.measurement import Result, SeedBlocks
from experiments.samples import SampleMeasurement
from experiments.scale import Scale
from skiptune.errors import SkiptuneError

DDIM, NONE = {"name": "ddim", "steps": 2}, {"name": "none"}


def test_each_training_seed_has_its_share_of_the_report_seeds(scales: dict[str, Scale]) -> None:
    desk = replace(scales["desk"], report=SeedBlocks(100_000, 5, 500))
    trained = desk.of_trained("ddim1_celeba")
    names = [own.role("ddim1_celeba").model["name"] for own in trained]
    assert names == ["ddim1_digits", *(f"ddim1_digits_seed{seed}" for seed in range(1, 5))]
    assert [own.report for own in trained] == [SeedBlocks(100_000 + 500 * i, 1, 500) for i in range(5)]
    made = [own.samples("ddim1_celeba", DDIM, NONE, own.report, ("fid",)) for own in trained]
    assert len({measurement.settings.model.sha256 for measurement in made}) == 5  # trainings
    assert all(isinstance(measurement, SampleMeasurement) for measurement in made)
    assert "ddim1_digits_seed2" in desk.role("ddim1_celeba").description["model"]
    assert desk.of_trained("unconditional_edm") == (desk,)


def test_blocks_and_training_seeds_must_match(scales: dict[str, Scale]) -> None:
    desk = replace(scales["desk"], report=SeedBlocks(100_000, 3, 500))
    with pytest.raises(SkiptuneError, match="count is 3, but ddim1_celeba has models of 5 training seeds"):
        desk.of_trained("ddim1_celeba")


def result(name: str, value: float, first: int, nfe: int = 10) -> Result:
    return Result(name, f"run of {name}", nfe, {"fid": [value]}, ((first, first + 9),), None, 1.5, {})


def test_joined_results_have_all_blocks_and_all_records() -> None:
    parts = [result("a", 1.0, 0), result("b", 2.0, 10), result("c", 4.0, 20)]
    joined = Result.joined(parts)
    assert joined.blocks == {"fid": [1.0, 2.0, 4.0]}
    assert joined.bounds == ((0, 9), (10, 19), (20, 29))
    assert [(part.record, part.run, part.seconds) for part in joined.parts] == [
        (name, f"run of {name}", 1.5) for name in "abc"
    ]
    value = joined.value("fid")
    assert value.n == 3 and value.value == pytest.approx(7 / 3)
    assert Result.joined(parts[:1]) is parts[0]


def test_parts_of_one_row_must_take_equal_work() -> None:
    with pytest.raises(SkiptuneError, match=r"\[10, 11\] evaluations"):
        Result.joined([result("a", 1.0, 0), result("b", 2.0, 10, nfe=11)])
