"""The benchmark of the probe, on a tiny network and short probes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.benchmarks.probing import benchmark_probing, render_probing
from experiments.importance_probe.cases import networks_of
from experiments.scale import Scale
from skiptune.importance import RELEASED, TEXT
from skiptune.samplers import make_sampler

SAMPLER = make_sampler("ddim", steps=2, offset=1, end="first")


def test_both_ways_decide_alike_and_the_report_counts(scales: dict[str, Scale]) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    denoiser = networks_of(scales["desk"], "sd_untrained").case(0).denoiser
    readings = {
        "released": replace(RELEASED, runs=2, iterations=3),
        "text": replace(TEXT, runs=2, iterations=2, candidates=2),
    }
    report = benchmark_probing("small", denoiser, SAMPLER, readings, images=2, repeats=1)
    released, text = report["probing"].values()
    # A teacher and a candidate for each of 2 runs x 3 iterations x 2 steps; then 2 x (1 + 2) for 8 places.
    assert released["calls"]["one by one"] == 24 and text["calls"]["one by one"] == 24
    assert released["calls"]["batched"] <= 2 + 3 * 2  # the teacher once a step, a call an iteration and step
    assert (released["decisions"], text["decisions"]) == (12, 16)
    assert released["ratio"]["median"] > 0
    without = report["sampling"]["without"]
    assert list(without)[:2] == ["0", "1"] and list(without)[7:10] == ["0, 6", "1, 5", "2, 4"]
    # 10 transformers: 1 in each of 3 down blocks and in the middle, 2 in each of 3 up blocks.
    assert without["3"]["computed"] == pytest.approx(1 - 1 / 10)
    assert without["0, 1, 2, 3, 4, 5, 6"]["computed"] == 0
    page = render_probing(report)
    assert "| released | 12 |" in page and "| 0, 6 | 70% |" in page
