"""Sampling times in one run, the ratio of the losses against its closed form, counts of training records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from s2dm_records import CURVE, SETTINGS
from torch import Tensor, nn

from experiments.bench import Bench
from experiments.measurement import SeedBlocks
from experiments.registry import kind_of, measurement
from experiments.s2dm.loss_ratio import mean_terms
from experiments.s2dm.sampling_time import DRAWN, SECONDS
from experiments.s2dm.training_records import diverged
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.errors import SkiptuneError
from skiptune.training.losses.skip_step import SkipStepLoss

Rows = Callable[..., RowConfig]
NONE = {"name": "none"}
BLOCKS = SeedBlocks(0, 2, 250)
TIMES: dict[str, Any] = {
    "kind": "sampling_time",
    "roles": ["ddim1_celeba", "s2dm_skip10_celeba"],
    "samplers": ["ddim", "f_pndm"],
    "step_counts": [4, 20],
    "batch": {"desk": 8, "paper": 2000},
}
SCHEDULE = vp_alphas("linear", 1e-4, 0.02, 1000)


def timed(small: Scale, row: RowConfig) -> Any:
    return measurement(small, row, NONE, BLOCKS, (SECONDS,))


def test_rows_are_paired_in_one_run_and_more_steps_take_longer(small: Scale, row: Rows, bench: Bench) -> None:
    wanted = [
        timed(small, row(TIMES, role, {"name": name, "steps": steps}))
        for role in TIMES["roles"]
        for name in TIMES["samplers"]
        for steps in (4, 20)
    ]
    found = bench.measure(wanted)
    assert len({result.run for result in found}) == 1
    assert len({result.record for result in found}) == len(found) == 8
    assert [result.nfe for result in found] == 2 * [4, 20, 13, 29]  # F-PNDM: 9 more than steps
    for few, many in zip(found[::2], found[1::2], strict=True):
        assert sum(many.blocks[SECONDS]) > sum(few.blocks[SECONDS]) > 0
    chunk = bench.store.load(found[0].run).read_chunk(1)
    stored = float(chunk["seconds_ddim1_celeba_ddim_20"][249])
    assert found[1].blocks[SECONDS][1] == pytest.approx(stored)
    assert [result.blocks for result in bench.measure(wanted)] == [result.blocks for result in found]


def test_seconds_are_those_of_50_000_images(small: Scale, row: Rows) -> None:
    settings = timed(small, row(TIMES, sampler={"name": "ddim", "steps": 4})).settings
    resolved = settings.resolved()
    assert resolved["drawn"] == DRAWN == 50_000 and resolved["batch"] == 8 and "cores" in resolved["machine"]
    begin = time.perf_counter()
    found = settings.compute(range(250))
    elapsed = time.perf_counter() - begin
    names = {name for name in found if name.startswith("seconds_")}
    assert len(names) == 8 and all(found[name].unique().numel() == 1 for name in names)
    # One batch of each is a part of what all of it took, however fast or busy the machine is.
    batches = [float(found[name][0]) * 8 / DRAWN for name in names]
    assert min(batches) > 0 and 1e-3 * elapsed < sum(batches) < elapsed


def test_of_a_chunk_a_batch_is_drawn(small: Scale, row: Rows) -> None:
    one = row(TIMES, sampler={"name": "f_pndm", "steps": 4})
    assert kind_of(one).evaluations(small, one) == pytest.approx(13 * 8 / 250)
    paper = replace(small, name="paper")
    assert kind_of(one).evaluations(paper, one) == pytest.approx(13 * 2000 / 250)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_counts": [5]}, "the row's own ddim1_celeba_ddim_4 is not among what is timed"),
        ({"batch": {"desk": 0}}, "batch: 0 images, it must be 1 or more"),
        ({"batch": {"paper": 9}}, "batch: missing key 'desk'"),
        ({"roles": ["nobody"]}, "no role at scale desk is called 'nobody'"),
        ({"roles": "ddim1_celeba"}, "roles: expected a list"),
    ],
)
def test_mistakes_of_times_are_one_line(
    small: Scale, row: Rows, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkiptuneError, match=message):
        timed(small, row({**TIMES, **change}, sampler={"name": "ddim", "steps": 4}))


class Scaled(nn.Module):
    """Predicts ``share`` times the noise where images are zeros, so that ``x_t`` is all noise."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share
        self.levels = (1 - SCHEDULE).sqrt().float()

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        return self.share * x / self.levels[t.long()].view(-1, 1, 1, 1)


@pytest.mark.parametrize("factor", ["eq12", "eq11"])
@pytest.mark.parametrize("share", [0.0, 0.9, 1.0])
def test_terms_of_a_known_predictor(share: float, factor: str) -> None:
    """With eps = a n the terms are (1 - a)^2 and the mean of (1 - a c_t)^2, known for a = 1."""
    loss = SkipStepLoss(skip=10, factor=factor)
    denoiser = DiscreteDenoiser(Scaled(share), (1, 8, 8), SCHEDULE)
    found = mean_terms(denoiser, loss, torch.zeros(6000, 1, 8, 8), range(6000), 125)
    factors = loss.factors(SCHEDULE)
    assert float(found["l_0"].mean()) == pytest.approx((1 - share) ** 2, rel=0.01, abs=1e-6)
    assert float(found["l_skip"].mean()) == pytest.approx(
        float((1 - share * factors).square().mean()), rel=0.03
    )
    if share == 1.0:
        printed = {"eq12": 0.492, "eq11": 4.22}[factor]
        assert float(found["l_skip"].mean()) == pytest.approx(printed, rel=0.03)


def test_ratio_is_that_of_the_means(small: Scale, row: Rows, bench: Bench) -> None:
    measures = [{"kind": "loss_ratio", "skip": 10, "factor": factor} for factor in ("eq12", "eq11")]
    names = ("l_0", "l_skip", "ratio")
    wanted = [measurement(small, row(measure), NONE, BLOCKS, names) for measure in measures]
    eq12, eq11 = bench.measure(wanted)
    assert eq12.run != eq11.run and eq12.nfe == 1
    assert eq12.blocks["l_0"] == eq11.blocks["l_0"]  # equal images, times, noise
    for result in (eq12, eq11):
        pairs = zip(result.blocks["l_skip"], result.blocks["l_0"], strict=True)
        assert result.blocks["ratio"] == [skipping / plain for skipping, plain in pairs]
    # Both kinds of seeds and of reading change what is measured.
    assert eq12.blocks["l_0"][0] != eq12.blocks["l_0"][1] and eq12.blocks["l_skip"] != eq11.blocks["l_skip"]


@pytest.mark.parametrize("measure", [{"skip": 10}, {"skip": 10, "factor": "eq13"}, {"factor": "eq12"}])
def test_mistakes_of_ratios_are_one_line(small: Scale, row: Rows, measure: dict[str, Any]) -> None:
    with pytest.raises(SkiptuneError, match="measure"):
        measurement(small, row({"kind": "loss_ratio", **measure}), NONE, BLOCKS, ("ratio",))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, False),
        ({"loss_curve": CURVE[:-1]}, True),  # ended early
        ({"loss_curve": []}, True),
        ({"loss_curve": [*CURVE[:-1], [640, float("nan")]]}, True),
        ({"loss_curve": [*CURVE[:-1], [640, 9.5]]}, True),  # ended above its beginning
        ({"loss_curve": [[64, 9.0], [128, 50.0], [640, 2.0]]}, False),  # a spike on the way
        ({"settings": {**SETTINGS, "images": 650}}, False),  # whole batches only
    ],
)
def test_divergence_as_a_record_shows_it(changes: dict[str, Any], expected: bool) -> None:
    assert diverged({"settings": SETTINGS, "loss_curve": CURVE, **changes}) is expected


def test_counts_over_all_training_seeds(small: Scale, row: Rows, bench: Bench, tmp_path: Path) -> None:
    names = ("trainings", "half_precision", "diverged")
    one = row({"kind": "training_records"})
    (found,) = bench.measure([measurement(small, one, NONE, BLOCKS, names)])
    assert found.blocks == {"trainings": [3, 3], "half_precision": [3, 3], "diverged": [0, 0]}
    for path in small.checkpoints.glob("ddim1*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = tmp_path / "ddim1_seed2.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "loss_curve": CURVE[:-1]}))
    other = replace(small, checkpoints=tmp_path)
    (found,) = bench.measure([measurement(other, one, NONE, BLOCKS, names)])
    assert found.blocks["diverged"] == [1, 1]
    (tmp_path / "ddim1_seed1.json").unlink()
    with pytest.raises(SkiptuneError, match=r"ddim1_seed1.json, the record of a training, is missing"):
        measurement(other, one, NONE, BLOCKS, names)


def test_roles_of_equal_training_seeds_change_them_together(small: Scale, row: Rows) -> None:
    more = {"alone": replace(small.role("ddim1_celeba"), suffixes=("",))}
    scale = replace(small, roles={**small.roles, **more}, report=SeedBlocks(0, 3, 500))
    each = scale.of_trained("ddim1_celeba")
    assert [[one.role(name).model["name"] for name in scale.roles] for one in each] == [
        ["ddim1", "s2dm_skip10", "ddim1"],
        ["ddim1_seed1", "s2dm_skip10_seed1", "ddim1"],
        ["ddim1_seed2", "s2dm_skip10_seed2", "ddim1"],
    ]
    assert [list(one.report.bounds) for one in each] == [[(0, 499)], [(500, 999)], [(1000, 1499)]]
    # So that rows of the two are paired in one run, also from a later training seed on.
    runs = [
        timed(each[1], row(TIMES, role, {"name": "ddim", "steps": 4})).settings.resolved()
        for role in ("ddim1_celeba", "s2dm_skip10_celeba")
    ]
    assert runs[0] == runs[1]
    # Records are those of all trainings, whichever of them the scale is of.
    named = [
        measurement(one, row({"kind": "training_records"}), NONE, BLOCKS, ("trainings",)).identity
        for one in (scale, *each)
    ]
    assert named.count(named[0]) == 4
