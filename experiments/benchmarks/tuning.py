"""Search for rho against the exhaustive grid of its space: what is found, and at what share of the cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from experiments.bench import Bench
from experiments.benchmarks.timing import made_on
from experiments.tuning.search import search
from experiments.tuning.tune import SelectionValues, Task
from skiptune.runtime.provenance import provenance

# The target, written down before the first run.
WITHIN, SHARE = 1.02, 0.25

TaskOf = Callable[[str, int, int], Task]
"""The task of a sampler, the first selection seed and a seed of the optimiser."""


@dataclass(frozen=True)
class Grid:
    """Every point of a space on all selection images: text of its settings -> value."""

    values: Mapping[str, float]
    best: str
    nfe: int


def measure_grid(task: Task, bench: Bench) -> Grid:
    """The exhaustive grid; lower is better."""
    settings = [task.space.at(point) for point in task.space.points()]
    found = bench.measure([task.measurement(one, task.effort.seeds) for one in settings])
    values = {
        label(task, one): result.value(task.metric).value for one, result in zip(settings, found, strict=True)
    }
    return Grid(values, min(values, key=lambda name: values[name]), found[0].nfe)


def label(task: Task, settings: Mapping[str, Any]) -> str:
    """The free settings of a point, as text."""
    return ", ".join(str(settings[name]) for name in task.space.free)


def benchmark_tuning(
    task_of: TaskOf, samplers: Sequence[str], selections: Sequence[int], optimisers: int, bench: Bench
) -> dict[str, Any]:
    """Grid and searches for every sampler and every set of selection seeds, as a plain report.

    Every search is repeated with the optimiser's seeds 0 ... ``optimisers - 1``. Cost is what a search alone
    looks at, wherever the images come from: grid and searches share one run store.
    """
    comparisons = []
    for first in selections:
        for sampler in samplers:
            task = task_of(sampler, first, 0)
            bench.label = f"{sampler}, grid on seeds from {first}"
            grid = measure_grid(task, bench)
            searches = []
            for seed in range(optimisers):
                task = task_of(sampler, first, seed)
                found = search(task.space, SelectionValues(task, bench), task.effort, task.lower_is_better)
                chosen = label(task, found.chosen.settings)
                searches.append(
                    {
                        "optimiser_seed": seed,
                        "tried": [label(task, trial.settings) for trial in found.trials],
                        "chosen": chosen,
                        "value": grid.values[chosen],
                        "ratio": grid.values[chosen] / grid.values[grid.best],
                        "evaluations": len(found.trials) * len(task.effort.seeds.seeds) * grid.nfe,
                    }
                )
            comparisons.append(
                {
                    "sampler": dict(task.settings.resolved()["sampler"]),
                    "nfe": grid.nfe,
                    "first_seed": first,
                    "grid": dict(grid.values),
                    "best": grid.best,
                    "grid_evaluations": task.space.size * len(task.effort.seeds.seeds) * grid.nfe,
                    "searches": searches,
                }
            )
    return {
        "model": task.settings.model.name,
        "metric": task.metric,
        "free": list(task.space.free),
        "images": len(task.effort.seeds.seeds),
        "points": task.effort.points(task.space),
        "target": {"within": WITHIN, "share": SHARE},
        "comparisons": comparisons,
        "optuna": optuna.__version__,
        "provenance": provenance(task.settings.device),
    }


def render_tuning(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    metric, target = report["metric"].upper(), report["target"]
    head = ["sampler", "NFE", "selection seeds from", "grid's best", metric, "tune's choice", metric]
    head += ["÷ grid's best", "other optimiser seeds: worst", "evaluations", "÷ grid's"]
    lines = [
        "# Search for rho against the exhaustive grid",
        "",
        f"{made_on(report['provenance'])}; Optuna {report['optuna']}; {report['model']}, "
        f"{', '.join(report['free'])}; {metric} on the same {report['images']} selection images for both.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
    ]
    for one in report["comparisons"]:
        default, *others = one["searches"]
        cells = [
            one["sampler"]["name"],
            one["nfe"],
            one["first_seed"],
            one["best"],
            f"{one['grid'][one['best']]:.2f}",
            default["chosen"],
            f"{default['value']:.2f}",
            f"{default['ratio']:.4f}",
            f"{max((other['ratio'] for other in others), default=default['ratio']):.4f}",
            f"{default['evaluations']:,} of {one['grid_evaluations']:,}",
            f"{default['evaluations'] / one['grid_evaluations']:.4f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    searches = [(one, found) for one in report["comparisons"] for found in one["searches"]]
    near = sum(found["ratio"] <= target["within"] for _, found in searches)
    cheap = all(found["evaluations"] <= target["share"] * one["grid_evaluations"] for one, found in searches)
    defaults = [one["searches"][0]["ratio"] <= target["within"] for one in report["comparisons"]]
    values = len(report["comparisons"][0]["grid"])
    lines += [
        "",
        f"Target: at most {target['within']:g} of the grid's best at no more than {target['share']:g} of its "
        f"cost. Near enough: {sum(defaults)} of {len(defaults)} searches with the optimiser's default seed, "
        f"{near} of {len(searches)} with all its seeds. Cost: {'met' if cheap else 'missed'}.",
        "",
        f"A search tries {report['points']} points, whatever the grid. The grid has {values} values; of one "
        f"of 10 a search would cost {report['points'] / 10:g}. Both are compared on the seeds that they "
        "were selected on, so the values are a little low. The search was developed on the seeds of Table "
        "2, those from 1000000; others were used for this comparison alone.",
    ]
    where = ", ".join(
        f"{one['sampler']['name']} from {one['first_seed']}"
        for one in report["comparisons"]
        if one["best"] in (list(one["grid"])[0], list(one["grid"])[-1])
    )
    if where:
        lines += [
            "",
            f"The grid's best is at the edge of its range, where every search begins, for: {where}.",
        ]
    return "\n".join(lines) + "\n"
