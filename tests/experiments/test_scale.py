"""Scales: roles, seeds, defaults of samplers, and what is said when something is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.references import RealImages, ReferenceFile
from experiments.scale import Scale
from experiments.scale_config import parse_scale
from skiptune.errors import SkiptuneError

HEUN, NONE = {"name": "heun", "steps": 5}, {"name": "none"}


def test_desk_measures_with_what_is_in_the_repository(scales: dict[str, Scale]) -> None:
    desk = scales["desk"]
    role = desk.role("class_conditional_edm")
    assert role.description == {"model": "edm_glyphs", "data": "glyphs", "features": "glyphs_cnn"}
    measurement = desk.samples("class_conditional_edm", HEUN, NONE, desk.report, ("fid",))
    real = measurement.real
    assert isinstance(real, RealImages)
    assert (real.dataset, real.images) == ("glyphs", role.reference_images)
    assert real.features == measurement.settings.features and real.features.name == "glyphs_cnn"
    assert measurement.settings.resolved()["sampler"]["sigma_max"] == 80.0
    assert measurement.blocks.count >= 2  # else there would be no interval


def test_settings_of_a_row_win_over_the_defaults(scales: dict[str, Scale]) -> None:
    desk = scales["desk"]
    merged = desk.sampler({"name": "unipc", "steps": 7, "order": 2})
    assert merged == {**desk.samplers["unipc"], "steps": 7, "order": 2}
    assert merged["sigma_max"] == 80.0


def test_rho_is_never_selected_on_the_seeds_it_is_reported_on(
    scales: dict[str, Scale], composed: Callable[..., dict[str, Any]]
) -> None:
    for scale in scales.values():
        assert not set(scale.select.bounds) & set(scale.report.bounds)
        assert scale.select.seeds.start >= scale.report.seeds.stop
    report = scales["desk"].report.seeds
    for first in (report.start, report.stop - 250):
        config = composed(f"scale.seeds.select.first={first}")
        with pytest.raises(SkiptuneError, match="seeds.select and seeds.report overlap"):
            parse_scale(config, "cpu")
    config = composed(f"scale.seeds.select.first={report.stop}")
    assert parse_scale(config, "cpu").select.seeds.start == report.stop


def test_unknown_names_are_refused(scales: dict[str, Scale]) -> None:
    with pytest.raises(
        SkiptuneError, match="no role at scale desk is called 'transformer'; there are class_conditional_edm"
    ):
        scales["desk"].role("transformer")
    with pytest.raises(SkiptuneError, match="no sampler is called 'dpm'; there are .*heun.*unipc"):
        scales["desk"].sampler({"name": "dpm", "steps": 5})
    with pytest.raises(SkiptuneError, match="no features is called 'vgg'; there are .*glyphs_cnn"):
        scales["desk"].extractor("class_conditional_edm", "vgg")


def test_missing_files_of_the_paper_scale_are_named(scales: dict[str, Scale], tmp_path: Path) -> None:
    paper = scales["paper"]
    with pytest.raises(SkiptuneError, match=r"edm-imagenet-64x64-cond-adm.pkl .* get it from https://"):
        paper.samples("class_conditional_edm", HEUN, NONE, paper.report, ("fid",))
    (tmp_path / "edm-imagenet-64x64-cond-adm.pkl").write_bytes(b"")
    (tmp_path / "imagenet-64x64.npz").write_bytes(b"")
    with pytest.raises(SkiptuneError, match="no extractor 'inception_v3': its weights .* are missing"):
        replace(paper, checkpoints=tmp_path).samples(
            "class_conditional_edm", HEUN, NONE, paper.report, ("fid",)
        )


def test_a_missing_reference_file_is_named(scales: dict[str, Scale], tmp_path: Path) -> None:
    paper, features = scales["paper"], scales["desk"].extractor("class_conditional_edm")
    with pytest.raises(SkiptuneError, match=r"imagenet-64x64.npz is missing; get it from https://"):
        paper.reference("class_conditional_edm", features)
    (tmp_path / "imagenet-64x64.npz").write_bytes(b"")
    real = replace(paper, checkpoints=tmp_path).reference("class_conditional_edm", features)
    assert isinstance(real, ReferenceFile)


def test_seeds_of_a_table_replace_those_of_the_scale(scales: dict[str, Scale]) -> None:
    desk = scales["desk"]
    blocks = {"first": 2_000_000, "count": 2, "size": 250}
    other = desk.with_seeds({"report": blocks})
    assert (other.report.first, other.report.count, other.report.size) == (2_000_000, 2, 250)
    assert other.select == desk.select and desk.with_seeds({}) == desk


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"report": {"first": 1_000_000, "count": 1, "size": 250}}, "seeds.select and seeds.report overlap"),
        (
            {"tune": {"first": 0, "count": 1, "size": 250}},
            "seeds are those of select and of report, not tune",
        ),
        ({"report": {"first": 0, "size": 250}}, "seed blocks are {first, count, size}"),
        ({"report": {"first": 0, "count": 1, "size": 100}}, "multiples of 250"),
    ],
)
def test_impossible_seeds_of_a_table(scales: dict[str, Scale], seeds: dict[str, Any], message: str) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        scales["desk"].with_seeds(seeds)
    assert "\n" not in str(caught.value)
