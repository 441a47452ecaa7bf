"""Steps of both losses side by side: what they hold is counted, what they take is timed in one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from experiments.bench import Bench
from experiments.benchmarks.training import benchmark_training, overhead, render_training
from experiments.measurement import SeedBlocks
from experiments.registry import kind_of, measurement
from experiments.s2dm.step_cost import LOSSES, held_bytes, step_costs, storages
from experiments.s2dm.training_cost import MEMORY, SECONDS
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.training.settings import DenoiserTraining

CPU = torch.device("cpu")
Rows = Callable[..., RowConfig]
COST = {"kind": "training_cost", "loss": "plain", "batch": 4, "steps": 2, "precision": "fp32"}


def network(scale: Scale) -> dict[str, Any]:
    found: dict[str, Any] = dict(scale.role("ddim1_celeba").model["denoiser"])
    return found


def training(scale: Scale, batch: int) -> DenoiserTraining:
    return DenoiserTraining(
        "x", network(scale), "noise", batch, batch, loss={"name": "noise_prediction"}, workers=1
    )


def test_memory_is_the_weights_five_times_and_what_grows_with_the_batch(small: Scale) -> None:
    one, two, three = (held_bytes(training(small, batch), CPU) for batch in (1, 2, 3))
    assert three - two == two - one > 0  # what is saved for the backward pass, image by image
    weights = sum(4 * p.numel() for p in build_denoiser(network(small)).parameters())
    # Weights, gradients, averages, two moments; Adam's counters and constants are small.
    assert 0 <= one - (two - one) - 5 * weights < 0.05 * weights
    assert held_bytes(training(small, 1), CPU) == one


def test_memory_behind_several_tensors_is_counted_once() -> None:
    base = torch.zeros(10)
    assert sum(storages([base, base[3:], base.view(2, 5), nn.Parameter(base)]).values()) == 40


def test_the_skip_step_holds_little_more(small: Scale) -> None:
    found = step_costs(network(small), 4, 3, CPU)
    assert list(found.timings.seconds) == list(LOSSES) == ["plain", "skip_step"]
    assert all(len(v) == 3 and min(v) > 0 for v in found.timings.seconds.values())
    image = 4 * 4 * 64
    assert 0 < found.memory["skip_step"] - found.memory["plain"] <= 8 * image  # a few more images


def test_rows_of_both_losses_share_one_run(small: Scale, row: Rows, bench: Bench) -> None:
    blocks, metrics = SeedBlocks(0, 2, 250), (SECONDS, MEMORY)
    plain = measurement(small, row(COST), {"name": "none"}, blocks, metrics)
    skip_row = row({**COST, "loss": "skip_step"}, "s2dm_skip10_celeba")
    skip = measurement(small, skip_row, {"name": "none"}, blocks, metrics)
    first = bench.measure([plain, skip])
    assert first[0].run == first[1].run and first[0].record != first[1].record
    chunk = bench.store.load(first[0].run).read_chunk(0)
    assert first[0].blocks[SECONDS][0] == pytest.approx(float(chunk["seconds_plain"][0]))
    assert first[1].blocks[SECONDS][0] == pytest.approx(float(chunk["seconds_skip_step"][0]))
    assert first[1].blocks[MEMORY][0] == first[1].blocks[MEMORY][1] > first[0].blocks[MEMORY][0]
    again = bench.measure([plain, skip])
    assert [result.blocks for result in again] == [result.blocks for result in first]


def test_a_run_is_named_by_its_machine_and_not_by_weights(small: Scale, row: Rows) -> None:
    blocks = SeedBlocks(0, 1, 250)
    first, second = (
        measurement(small, row(COST, role), {"name": "none"}, blocks, (SECONDS,)).settings.resolved()
        for role in ("ddim1_celeba", "s2dm_skip10_celeba")
    )
    assert first == second and "cores" in first["machine"]


def test_cost_is_that_of_one_loss(small: Scale, row: Rows) -> None:
    kind = kind_of(row(COST))
    # Of a chunk of 250 seeds: 2 steps and 3 beside them, each 4 images forwards and twice as much backwards.
    assert kind.evaluations(small, row(COST)) == pytest.approx(3 * 4 * 5 / 250)
    assert not kind.weights and not kind.features


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "l2"}, "'l2' is not one of plain, skip_step"),
        ({"batch": 0}, "batch and steps must be 1 or more"),
        ({"precision": "fp8"}, "not one of fp32, bf16, fp16"),
        ({"speed": 1}, "unknown key 'speed'"),
    ],
)
def test_mistakes_are_one_line(small: Scale, row: Rows, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SkiptuneError, match=message):
        measurement(small, row({**COST, **change}), {"name": "none"}, SeedBlocks(0, 1, 250), (SECONDS,))


def test_the_benchmark_says_what_it_measured(small: Scale) -> None:
    both = {"tiny": network(small)}
    report = benchmark_training(both, {"large": network(small)}, CPU, 4, 2, "fp32", [False])
    tiny, large = report["networks"]
    assert (tiny["network"], tiny["batch"], large["network"], large["batch"]) == ("tiny", 4, "large", 4)
    assert tiny["bytes"]["skip_step"] > tiny["bytes"]["plain"] > 0
    page = render_training(report)
    assert "| tiny | 4 | 2 | no |" in page and "one thread" in page and page.count("\n| ") == 4


def test_overhead_is_the_median_of_pairs() -> None:
    seconds = {"plain": [1.0, 2.0, 4.0, 1.0, 1.0], "skip_step": [1.1, 2.2, 8.0, 1.0, 1.2]}
    found = overhead(seconds)
    assert found["median"] == pytest.approx(1.1)
    assert (found["lower"], found["upper"]) == pytest.approx((1.1, 1.2))
    assert overhead({"plain": [2.0], "skip_step": [3.0]})["median"] == 1.5
