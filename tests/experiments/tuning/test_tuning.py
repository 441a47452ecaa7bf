"""Tuning and its benchmark on a small real condition: one network evaluation, a chunk a point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.bench import Bench
from experiments.benchmarks.tuning import benchmark_tuning, render_tuning
from experiments.measurement import SeedBlocks
from experiments.references import RealImages
from experiments.scale import Scale
from experiments.tuning.search import Effort
from experiments.tuning.space import Space
from experiments.tuning.tune import Task, tune
from skiptune.errors import SkiptuneError
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers

MakeTask = Callable[..., Task]


@pytest.fixture
def task(scales: dict[str, Scale]) -> MakeTask:
    def task(first: int = 1000, **change: Any) -> Task:
        euler, tuned = {"name": "euler", "steps": 1}, {"name": "skip_tuning"}
        settings = scales["desk"].sampling("class_conditional_edm", euler, tuned)
        parts: dict[str, Any] = {
            "settings": settings,
            "real": RealImages("glyphs", 300, settings.features, "cpu"),
            "metric": "fid",
            "space": Space.of({"rho_bottom": [0.2, 0.5, 0.7, 0.8, 0.95]}),
            "effort": Effort(SeedBlocks(first, 1, 250)),
            "report": SeedBlocks(2000, 2, 250),
        }
        return Task(**(parts | change))

    return task


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(RunStore(tmp_path / "store"), Workers(1))


def test_report_compares_search_and_grid(task: MakeTask, bench: Bench) -> None:
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


def test_choice_and_report_come_from_the_store_alone_the_second_time(task: MakeTask, bench: Bench) -> None:
    first = tune(task(), bench)
    written = {path: path.stat().st_mtime_ns for path in bench.store.root.rglob("*.*")}
    again = tune(task(), bench)
    assert (again.search, again.gain, again.records) == (first.search, first.gain, first.records)
    assert {path: path.stat().st_mtime_ns for path in bench.store.root.rglob("*.*")} == written
    assert first.helps == (first.gain.high < 0)
    assert first.recommended["rho_bottom"] == (
        first.search.chosen.settings["rho_bottom"] if first.helps else 1.0
    )


def test_what_is_better_when_higher_needs_a_gain_above_zero(task: MakeTask, bench: Bench) -> None:
    """Accuracy of one Euler step is about that of guessing: whatever is found, the rule is the same."""
    tuned = tune(task(metric="accuracy"), bench)
    values = [trial.value for trial in tuned.search.trials]
    assert tuned.search.chosen.value == max(values)
    assert tuned.helps == (tuned.gain.low > 0)


def test_seeds_of_selection_and_report_may_not_meet(task: MakeTask) -> None:
    for report in (SeedBlocks(1000, 2, 250), SeedBlocks(750, 2, 250), SeedBlocks(0, 8, 250)):
        with pytest.raises(SkiptuneError, match="overlap"):
            task(report=report)
    assert task(report=SeedBlocks(1250, 2, 250)).report.first == 1250


def test_the_name_of_a_task_holds_all_that_determines_it(task: MakeTask) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"metric": "kid"},
        {"report": SeedBlocks(3000, 2, 250)},
        {"effort": Effort(SeedBlocks(1000, 1, 250), optimiser_seed=1)},
        {"effort": Effort(SeedBlocks(1000, 1, 250), trials=5)},
        {"space": Space.of({"rho_bottom": [0.2, 0.5]})},
    ]
    assert len({task(**change).id for change in changes}) == len(changes)
    assert task().id == task().id
