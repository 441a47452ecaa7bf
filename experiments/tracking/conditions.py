"""What an experiment tracker gets of conditions beside the tables: one measured by itself, one tuned.

Each is a point of a sweep: its name tells what was set, and NFE and rho, the axes, are among its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.measurement import Result
from experiments.tracking.runs import TAG, Tracked, first_images, of_value
from experiments.tuning.tune import Tuned
from experiments.values import Value
from experiments.wording import condition_name, rho_of
from skiptune.runtime.store import RunStore
from skiptune.runtime.tracking import RunInfo

# Groups, and kinds of runs, which stay when the configuration names another group.
MEASURE, TUNING = "measure", "tuning"
NAME = 128  # letters at most


def measured_run(
    result: Result, values: Mapping[str, Value], settings: Mapping[str, Any], store: RunStore
) -> Tracked:
    """One condition measured by itself; `settings` are those of its sampling run."""
    named = ("model", "sampler", "intervention")
    info = RunInfo(
        id=result.record,
        name=condition_name(settings)[:NAME],
        group=MEASURE,
        job=MEASURE,
        tags=tuple(tag[:TAG] for tag in (MEASURE, *(settings[key]["name"] for key in named))),
        config={**settings, "seeds": [list(block) for block in result.bounds], **result.provenance},
    )
    numbers = {key: number for name, value in values.items() for key, number in of_value(name, value)}
    speed = {} if result.images_per_second is None else {"images_per_second": result.images_per_second}
    return Tracked(
        info,
        images=sum(last - first + 1 for first, last in result.bounds),
        values={**numbers, **rho_of(settings["intervention"]), "nfe": float(result.nfe), **speed},
        pictures=first_images((result.record, result.run), values, store),
    )


def tuned_run(tuned: Tuned, config: Mapping[str, Any], figure: Path) -> Tracked:
    """A search by what it recommends: its gain over rho = 1 with the interval, its cost, its figure."""
    task, gain, named = tuned.task, tuned.gain, ("model", "sampler")
    settings = task.settings.resolved()
    info = RunInfo(
        id=task.id,
        name=condition_name({**settings, "intervention": tuned.recommended})[:NAME],
        group=TUNING,
        job=TUNING,
        tags=tuple(tag[:TAG] for tag in ("tune", *(settings[key]["name"] for key in named), task.metric)),
        config=config,
    )
    numbers = {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "cost": tuned.cost}
    for name, result in (("chosen", tuned.chosen), ("untouched", tuned.untouched)):
        numbers |= dict(of_value(f"{task.metric}_{name}", result.value(task.metric)))
    return Tracked(
        info,
        images=len(task.report.seeds),
        values={**numbers, **rho_of(tuned.recommended), "nfe": float(tuned.nfe)},
        summary=tuned.recommended,
        pictures={"search": figure},
    )
