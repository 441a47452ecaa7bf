"""What was found, as a record and in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna

from experiments.measurement import SeedBlocks
from experiments.tuning.paste import override_line, python_line
from experiments.tuning.space import Choice
from experiments.tuning.tune import Tuned
from skiptune.runtime.files import write_atomic
from skiptune.runtime.provenance import provenance


def record(tuned: Tuned, levels: Sequence[float]) -> dict[str, Any]:
    """Plain values: everything tried, cost, report, recommendation, hashes of the run records.

    ``levels``: the sampler's noise levels.
    """
    task, gain = tuned.task, tuned.gain
    return {
        "model": task.settings.model.name,
        "sampler": dict(task.settings.resolved()["sampler"]),
        "metric": task.metric,
        "space": {name: list(values) for name, values in task.space.choices.items()},
        "optimiser_seed": task.effort.optimiser_seed,
        "seeds": {"select": bounds(task.effort.seeds), "report": bounds(task.report)},
        "tried": [{"settings": trial.settings, "value": trial.value} for trial in tuned.search.trials],
        "chosen": tuned.search.chosen.settings,
        "at_edge": list(task.space.edges(tuned.search.chosen.settings)),
        "report": {
            "chosen": tuned.chosen.blocks[task.metric],
            "untouched": tuned.untouched.blocks[task.metric],
            "gain": {"value": gain.value, "low": gain.low, "high": gain.high, "n": gain.n},
        },
        "helps": tuned.helps,
        "recommended": tuned.recommended,
        "python": python_line(tuned.recommended, levels),
        "overrides": override_line(tuned.recommended),
        "cost": {
            "nfe": tuned.nfe,
            "images": tuned.images,
            "evaluations": tuned.evaluations,
            "exhaustive_evaluations": tuned.exhaustive,
            "ratio": tuned.cost,
        },
        "records": list(tuned.records),
        "optuna": optuna.__version__,
        "provenance": provenance(task.settings.device),
    }


def bounds(blocks: SeedBlocks) -> list[list[int]]:
    return [list(pair) for pair in blocks.bounds]


def words(settings: Mapping[str, Choice]) -> str:
    """Settings in one line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {'none' if value is None else value}" for name, value in settings.items()
    )


def render(tuned: Tuned, levels: Sequence[float]) -> str:
    """The outcome for a terminal, ending in the line to paste."""
    task, search, gain = tuned.task, tuned.search, tuned.gain
    metric = task.metric.upper()
    size = len(task.effort.seeds.seeds)
    chosen, untouched = (result.value(task.metric) for result in (tuned.chosen, tuned.untouched))
    lines = [
        f"best of {len(search.trials)} points tried of {task.space.size}: {words(search.chosen.settings)} "
        f"({metric} {search.chosen.value:.4g} on {size} selection images)",
        f"cost: {tuned.evaluations:,} network evaluations ({tuned.images:,} images x {tuned.nfe} NFE), "
        f"{tuned.cost:.3g} of the exhaustive grid's {tuned.exhaustive:,}; "
        f"then {2 * len(task.report.seeds):,} images for the report",
        f"report seeds: {metric} {chosen.value:.4g} against {untouched.value:.4g} with rho = 1, difference "
        f"{gain.value:.4g} [{gain.low:.4g}, {gain.high:.4g}] (95%, {gain.n} paired blocks)",
    ]
    for name in task.space.edges(search.chosen.settings):
        lines.append(f"{name} is at the edge of its range: the optimum may lie further out")
    if not tuned.helps:
        lines.append("no gain beyond the interval: recommended is rho = 1, the untouched network")
    lines += [
        "",
        "from skiptune.interventions import SkipTuning, TimeSchedule, Window"
        if "schedules" in python_line(tuned.recommended, levels)
        else "from skiptune.interventions import SkipTuning",
        python_line(tuned.recommended, levels),
        "",
        override_line(tuned.recommended),
    ]
    return "\n".join(lines)


def write_record(path: Path, tuned: Tuned, levels: Sequence[float]) -> None:
    """The record as JSON."""
    write_atomic(path, json.dumps(record(tuned, levels), indent=1, allow_nan=False) + "\n")
