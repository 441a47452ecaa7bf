"""Find rho for a model, sampler and number of steps; ends in a plot and a line to paste."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__, "tune")  # before the imports that take seconds

from pathlib import Path
from typing import Any

from experiments.drawings.tuning import draw_tuning
from experiments.measurement import SeedBlocks
from experiments.tracking.conditions import tuned_run
from experiments.tuning.report import render, write_record
from experiments.tuning.search import Effort
from experiments.tuning.space import Space
from experiments.tuning.tune import Task, tune
from scripts.shared.common import (
    check_tracking,
    check_writable,
    command,
    make_bench,
    sampling_of,
    track,
)
from scripts.shared.references import check_measurable, reference_of
from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import world
from skiptune.runtime.networks import cached_model
from skiptune.samplers import make_sampler


@command("tune")
def main(config: dict[str, Any]) -> None:
    with make_bench(config) as bench:
        task = parse_task(config, bench.device)
        settings = task.settings
        results = Path(str(config["results"]))
        name = f"{settings.model.name}_{settings.sampler['name']}_{task.id[:8]}"
        if world().is_main:
            check_writable(results)
            check_tracking(config)
        tuned = tune(task, bench)
    if not world().is_main:
        return
    fitted = make_sampler(**settings.sampler).fitted(cached_model(settings.model, settings.device))
    levels = [float(level) for level in fitted.sigmas]
    write_record(results / f"{name}.json", tuned, levels)
    draw_tuning(results / f"{name}.png", tuned)
    track(config, [tuned_run(tuned, config, results / f"{name}.png")])
    print(render(tuned, levels))
    for end in ("json", "png"):
        print(f"wrote {results / name}.{end}")


def parse_task(config: dict[str, Any], device: str) -> Task:
    """The task of a resolved configuration (``configs/tune.yaml``), on a device.

    Raises:
        SkiptuneError: a missing file, an impossible value.
    """
    check_measurable(config)
    settings = sampling_of(config, device)
    seeds = config["seeds"]
    if not isinstance(seeds, dict) or set(seeds) != {"select", "report"}:
        raise SkiptuneError(f"seeds are {{select, report}}, not {seeds!r}")
    trials = None if config["trials"] == "auto" else config["trials"]
    effort = Effort(SeedBlocks.of(seeds["select"]), trials, config["optimiser_seed"])
    real, space = reference_of(config, settings), Space.of(config["space"])
    return Task(settings, real, config["metric"], space, effort, SeedBlocks.of(seeds["report"]))


if __name__ == "__main__":
    main()
