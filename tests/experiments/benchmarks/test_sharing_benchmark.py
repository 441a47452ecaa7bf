"""The benchmark of searches that share work, on few images and short searches."""

from __future__ import annotations

import pytest

from experiments.benchmarks import sharing
from experiments.benchmarks.sharing import benchmark_sharing, render_sharing, searches
from skiptune.checkpoints.desk import load_desk_denoiser


def test_report_counts_what_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "WINDOWS", 3)
    monkeypatch.setattr(sharing, "WINDOW_STEPS", 2)
    student, teacher = (load_desk_denoiser(name).denoiser for name in ("cd_glyphs", "edm_glyphs"))
    one_step, windows = searches()
    report = benchmark_sharing({one_step: student, windows: teacher}, images=2, repeats=1)
    assert report[one_step]["evaluations"] == {"together": 10, "apart": 10}  # only the encoder is shared
    # Of 6 steps, windows of 2 part from the baseline at 0, 2 and 4: 6 + 6 + 4 + 2 calls, apart 4 times 6.
    assert report[windows]["evaluations"] == {"together": 18, "apart": 24}
    page = render_sharing(report)
    assert "| 24 | 18 | 0.750 |" in page and page.count("\n| ") == 4


def test_the_searches_are_those_that_the_targets_speak_of() -> None:
    (one_step, ten), (windowed, fourteen) = searches().values()
    assert one_step["steps"] == 1 and len(ten) == 10
    assert windowed["steps"] == 52 and len(fourteen) == 14
