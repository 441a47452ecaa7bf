from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.benchmarks.metric_cost import CURVE_METRICS, activations, cost, plot_growth
from experiments.benchmarks.metrics import benchmark_fid, benchmark_five, render_metrics
from skiptune.runtime.provenance import provenance


def test_contestants_agree_and_are_rendered() -> None:
    contests = {**benchmark_fid(120, 20, 32, 1), "five": benchmark_five(120, 32, 1)}
    for part in contests.values():
        values = list(part["values"].values())
        assert values == pytest.approx([values[0]] * len(values), rel=1e-5)
        assert set(part["seconds"]) == set(part["values"]) and len(part["ratios"]) >= 1
    growth = {"fid": [{"images": 100, "seconds": 0.5, "gib": 0.1}]}
    report = {"dimension": 32, "repeats": 1, "threads": 1, "provenance": provenance("cpu")}
    text = render_metrics({**report, "contests": contests, "growth": growth})
    assert "| FID, 20 images | clean-fid |" in text and "| FID | 100 | 0.5 | 0.10 |" in text


def test_features_are_of_full_rank_and_do_not_depend_on_their_number() -> None:
    few, many = activations(1500, 16, 1), activations(2500, 16, 1)
    assert torch.equal(few[:1000], many[:1000])
    assert torch.linalg.matrix_rank(many - many.mean(0)) == 16


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    points = [cost("precision_recall", images, 8) for images in (50, 100)]
    assert all(point["seconds"] > 0 and point["gib"] >= 0 for point in points)
    plot_growth({"growth": dict.fromkeys(CURVE_METRICS, points)}, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
