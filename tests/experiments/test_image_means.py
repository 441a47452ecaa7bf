"""Quantities of every seed: block means through a real bench, kept, and gone on with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.bench import Bench
from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from skiptune.errors import SkiptuneError
from skiptune.runtime.seed_chunks import open_run
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers


@dataclass(frozen=True)
class Seeds:
    """The seed itself in float32 and its square; ``nfe`` alternates between 4 and 6 where it is counted."""

    counted: bool = True

    def resolved(self) -> dict[str, Any]:
        return {"kind": "seeds", "counted": self.counted}

    def compute(self, seeds: range) -> dict[str, Tensor]:
        number = torch.tensor(list(seeds), dtype=torch.float32)
        values = {"seed": number, "square": number.double() ** 2}
        return values | ({"nfe": 4 + 2 * (number % 2)} if self.counted else {})


MEANS = ImageMeans(Seeds(), SeedBlocks(500, 2, 500), ("square", "seed"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(RunStore(tmp_path), Workers(1))


def test_a_blocks_value_is_its_mean(bench: Bench) -> None:
    (result,) = bench.measure([MEANS])
    # Of first .. last: the mean is (first + last) / 2, and the variance (n^2 - 1) / 12.
    means = [749.5, 1249.5]
    assert result.blocks["seed"] == means
    squares = [m**2 + (500**2 - 1) / 12 for m in means]
    assert result.blocks["square"] == pytest.approx(squares, rel=1e-13)
    assert (result.nfe, result.bounds) == (5, ((500, 999), (1000, 1499)))
    value = result.value("seed")
    assert value.value == 999.5 and value.low is not None and value.low < 999.5 and value.images == 1000
    assert result.run == open_run(MEANS.settings, bench.store).id


def test_more_blocks_go_on_from_the_stored_chunks(bench: Bench) -> None:
    bench.measure([MEANS])
    run = open_run(MEANS.settings, bench.store)
    before = {path: path.stat().st_mtime_ns for path in (run.folder / "chunks").iterdir()}
    (more,) = bench.measure([replace(MEANS, blocks=SeedBlocks(500, 3, 500))])
    after = {path: path.stat().st_mtime_ns for path in (run.folder / "chunks").iterdir()}
    assert more.blocks["seed"] == [749.5, 1249.5, 1749.5]
    assert before.items() <= after.items()
    assert sorted(path.name for path in after.keys() - before.keys()) == [
        "00006.safetensors",
        "00007.safetensors",
    ]
    # Another quantity of the same seeds is read, not computed.
    (seed,) = bench.measure([replace(MEANS, metrics=("seed",))])
    assert seed.images_per_second is None and seed.blocks == {"seed": [749.5, 1249.5]}


def test_identity_is_run_seeds_and_quantities_in_any_order(bench: Bench) -> None:
    def name(means: ImageMeans) -> str:
        return bench.store.open(means.identity).id

    assert name(MEANS) == name(replace(MEANS, metrics=("seed", "square")))
    others = [
        replace(MEANS, metrics=("seed",)),
        replace(MEANS, blocks=SeedBlocks(500, 1, 1000)),
        replace(MEANS, settings=Seeds(counted=False)),
    ]
    assert len({name(MEANS), *map(name, others)}) == 4


def test_without_network_evaluations_there_are_none(bench: Bench) -> None:
    (result,) = bench.measure([replace(MEANS, settings=Seeds(counted=False))])
    assert result.nfe == 0


def test_unknown_quantity_is_one_line(bench: Bench) -> None:
    with pytest.raises(SkiptuneError, match="no quantity 'loss' here; there are nfe, seed, square") as caught:
        bench.measure([replace(MEANS, metrics=("seed", "loss"))])
    assert "\n" not in str(caught.value)
