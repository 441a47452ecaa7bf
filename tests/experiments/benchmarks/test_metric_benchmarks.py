from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments.benchmarks.metric_cost import CURVES, activations, cost, plot_growth
from experiments.benchmarks.metric_report import PARTS, growth_curves, measure_part, render_metrics
from experiments.benchmarks.metrics import (
    PRECISION_RECALL,
    Setup,
    benchmark_fid,
    benchmark_five,
    benchmark_kid,
)
from experiments.benchmarks.timing import alternate
from scripts.benchmark import main
from skiptune.errors import SkiptuneError

ROOT = Path(__file__).resolve().parents[3]
TINY = Setup(dimension=32, images=120, few=20, pictures=10, repeats=2)


def test_contestants_agree() -> None:
    contests = {**benchmark_fid(TINY), **benchmark_kid(TINY), **benchmark_five(TINY)}
    assert list(contests) == [
        "FID, 120 images",
        "FID, 20 images, from their features",
        "KID, 120 images",
        "five metrics of features, 120 images",
    ]
    for name, part in contests.items():
        values = list(part["values"].values())
        tolerance = {"abs": 2e-6} if name.startswith("KID") else {"rel": 1e-5}  # theirs in float32
        assert values == pytest.approx([values[0]] * len(values), **tolerance)
        assert set(part["seconds"]) == set(part["values"]) and len(part["ratios"]) >= 1


def test_contestants_of_precision_and_recall_agree() -> None:
    assert len({run(*TINY.features()) for run in PRECISION_RECALL.values()}) == 1


def test_added_memory_is_what_the_run_holds_at_most() -> None:
    """In a process of its own, as the benchmark measures: one that ran much has memory left to use again."""
    code = (
        "import torch; from experiments.benchmarks.metric_cost import added_memory\n"
        "for _ in range(2): print(*added_memory(lambda: torch.ones(2**25)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert len(lines) == 2  # the peak of the first does not hide the second
    for line in lines:
        gib, seconds = map(float, line.split())
        assert gib == pytest.approx(0.125, abs=0.02) and seconds > 0


def test_alternating_keeps_what_was_found_and_warms_up_unless_told_not_to() -> None:
    for warm_up, calls in ((True, 3), (False, 2)):
        seen: list[int] = []
        timings = alternate({"a": lambda seen=seen: seen.append(1) or len(seen)}, 1, 2, warm_up)
        assert timings.outcomes == {"a": calls} and len(timings.seconds["a"]) == 2


def test_parts_are_measured_one_by_one_and_joined(tmp_path: Path) -> None:
    sizes = ["dimension=16", "images=60", "few=12", "repeats=1", "sizes=[50,100]", f"results={tmp_path}"]
    main(["metrics", "parts=[fid]", *sizes])
    main(["metrics", "parts=[growth_is]", *sizes])
    text = (tmp_path / "benchmarks" / "metrics_cpu.md").read_text()
    assert "| FID, 12 images, from their features | clean-fid |" in text
    assert "| IS | " in text and "| growth_is | Device" in text
    with Image.open(tmp_path / "benchmarks" / "metrics_growth_cpu.png") as picture:
        assert picture.width > 1000
    with pytest.raises(SkiptuneError, match=r"unknown part 'fit'; choose.*growth_mmd"):
        main(["metrics", "parts=[fit]"])


def test_report_of_growth_alone() -> None:
    point = {"images": 100, "seconds": 0.5, "gib": 0.25}
    part = measure_part("growth_fid", TINY, sizes=())
    assert part["growth"] == [] and part["threads"] >= 1 and len(part["load"]) == 2
    report = {"growth_fid": part | {"growth": [point]}}
    assert growth_curves(report) == {"fid": [point]}
    assert "| FID | 0.5 (0.25) |" in render_metrics(report)
    assert set(PARTS) >= {f"growth_{curve}" for curve in CURVES}


def test_features_are_of_full_rank_and_do_not_depend_on_their_number() -> None:
    few, many = activations(1500, 16, 1), activations(2500, 16, 1)
    assert torch.equal(few[:1000], many[:1000])
    assert torch.linalg.matrix_rank(many - many.mean(0)) == 16


def test_growth_is_measured_and_drawn(tmp_path: Path) -> None:
    points = [cost("precision_recall", images, 8) for images in (50, 100)]
    assert all(point["seconds"] > 0 and point["gib"] >= 0 for point in points)
    points = [point | {"gib": point["gib"] + 0.01} for point in points]  # so little may be measured as none
    plot_growth(dict.fromkeys(CURVES, points), 8, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
