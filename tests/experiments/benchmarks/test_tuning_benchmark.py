"""The benchmark of tuning on a small real condition: one network evaluation, a chunk a point."""

from __future__ import annotations

from collections.abc import Callable

from experiments.bench import Bench
from experiments.benchmarks.tuning import benchmark_tuning, render_tuning
from experiments.tuning.tune import Task


def test_report_compares_search_and_grid(task: Callable[..., Task], bench: Bench) -> None:
    report = benchmark_tuning(lambda sampler, first, seed: task(first), ["euler"], [1000], 2, bench)
    (one,) = report["comparisons"]
    assert list(one["grid"]) == ["0.2", "0.5", "0.7", "0.8", "0.95"]
    assert one["grid"][one["best"]] == min(one["grid"].values())
    assert one["grid_evaluations"] == 5 * 250
    for found in one["searches"]:
        assert len(found["tried"]) == 4 and found["evaluations"] == 4 * 250
        assert found["value"] == min(one["grid"][name] for name in found["tried"])
        assert found["ratio"] == found["value"] / one["grid"][one["best"]] >= 1
    assert one["searches"][0]["tried"][:3] == ["0.2", "0.7", "0.95"]
    text = render_tuning(report)
    assert "| 1,000 of 1,250 | 0.8000 |" in text and "Cost: missed." in text
