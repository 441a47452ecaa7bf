"""Tuning one small real condition: one network evaluation, a chunk a point; what known blocks say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from experiments.bench import Bench
from experiments.measurement import Result, SeedBlocks
from experiments.tuning.search import Effort, Search, Trial
from experiments.tuning.space import Space
from experiments.tuning.tune import Task, Tuned, tune
from skiptune.errors import SkiptuneError

MakeTask = Callable[..., Task]


def test_choice_and_report_come_from_the_store_alone_the_second_time(task: MakeTask, bench: Bench) -> None:
    first = tune(task(), bench)
    written = {path: path.stat().st_mtime_ns for path in bench.store.root.rglob("*.*")}
    again = tune(task(), bench)
    assert (again.search, again.gain, again.records) == (first.search, first.gain, first.records)
    assert {path: path.stat().st_mtime_ns for path in bench.store.root.rglob("*.*")} == written
    values = [trial.value for trial in first.search.trials]
    assert first.search.chosen.value == min(values) < max(values)


def test_of_a_metric_that_is_better_when_higher_the_highest_is_chosen(task: MakeTask, bench: Bench) -> None:
    """Accuracy of one Euler step is about that of guessing."""
    search = tune(task(metric="accuracy"), bench).search
    assert search.chosen.value == max(trial.value for trial in search.trials)


@pytest.mark.parametrize(
    ("metric", "chosen", "helps"),
    [
        ("fid", [8.0, 9.1, 6.9], True),
        ("fid", [12.0, 13.1, 10.9], False),
        ("fid", [8.0, 13.1, 8.9], False),  # lower in the mean, not beyond the noise
        ("accuracy", [12.0, 13.1, 10.9], True),
        ("accuracy", [8.0, 9.1, 6.9], False),
        ("accuracy", [12.0, 9.1, 10.9], False),
    ],
)
def test_rho_is_recommended_if_its_gain_is_beyond_the_noise(
    task: MakeTask, metric: str, chosen: Sequence[float], helps: bool
) -> None:
    """The untouched network has 10, 11 and 9 on the three blocks."""
    point = Trial({"rho_bottom": 0.7}, 8.0)
    results = [
        Result("f" * 20, "f" * 20, 1, {metric: list(blocks)}, (), None, 1.0, {})
        for blocks in (chosen, (10.0, 11.0, 9.0))
    ]
    tuned = Tuned(task(metric=metric), Search((point,), point), *results, 1, ())
    assert tuned.helps is helps
    assert tuned.recommended == tuned.task.intervention({"rho_bottom": 0.7 if helps else 1.0})


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
