"""Tuning one condition: search on the selection seeds, then chosen against untouched on the report seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.bench import Bench
from experiments.measurement import Result, SeedBlocks
from experiments.references import RealImages, ReferenceFile
from experiments.samples import SampleMeasurement
from experiments.scale import disjoint
from experiments.tuning.search import Effort, Search, search
from experiments.tuning.space import Choice, Space
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import Interval, paired_difference_interval
from skiptune.evaluation.metrics import get_metric
from skiptune.interventions.build import complete_settings
from skiptune.runtime.sampling import SamplingSettings
from skiptune.runtime.store import run_id

UNTOUCHED: dict[str, Choice] = {"rho_bottom": 1.0, "rho_top": 1.0, "time_direction": None}


@dataclass(frozen=True)
class Task:
    """What to tune: a condition with Skip-Tuning, one metric, a space, and the seeds of search and report.

    Attributes:
        settings: the condition; what the space does not name stays as its intervention says.
        report: seed blocks on which chosen and untouched network are compared.

    Raises:
        SkiptuneError: another intervention, an unknown metric, a report of one block (no interval), report
            seeds that are used for the search.
    """

    settings: SamplingSettings
    real: RealImages | ReferenceFile
    metric: str
    space: Space
    effort: Effort
    report: SeedBlocks

    def __post_init__(self) -> None:
        name = self.settings.intervention.get("name")
        if name != "skip_tuning":
            raise SkiptuneError(f"the intervention is {name}, but what is tuned are settings of skip_tuning")
        get_metric(self.metric)
        disjoint({"select": self.effort.seeds, "report": self.report})
        if self.report.count < 2:
            raise SkiptuneError("seeds.report has 1 block: the interval of the gain needs at least 2")

    @property
    def lower_is_better(self) -> bool:
        return get_metric(self.metric).lower_is_better

    def intervention(self, settings: Mapping[str, Choice]) -> dict[str, Any]:
        """Complete settings of Skip-Tuning at a point of the space."""
        return complete_settings({**self.settings.intervention, **settings})

    def measurement(self, settings: Mapping[str, Choice], seeds: SeedBlocks) -> SampleMeasurement:
        """The metric at a point of the space on some seeds."""
        condition = replace(self.settings, intervention=self.intervention(settings))
        return SampleMeasurement(condition, seeds, self.real, (self.metric,))

    @property
    def id(self) -> str:
        """Hash of all that determines what is found."""
        effort = self.effort
        return run_id(
            {
                "kind": "tuning",
                "select": self.measurement(UNTOUCHED, effort.seeds).identity,
                "report": self.measurement(UNTOUCHED, self.report).identity,
                "intervention": dict(self.settings.intervention),
                "space": {name: list(values) for name, values in self.space.choices.items()},
                "effort": [effort.points(self.space), effort.optimiser_seed],
            }
        )


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        chosen, untouched: the best point tried and rho = 1 on the report seeds.
        nfe: measured network evaluations per image.
        records: ids of all run records behind it.
    """

    task: Task
    search: Search
    chosen: Result
    untouched: Result
    nfe: int
    records: tuple[str, ...]

    @property
    def gain(self) -> Interval:
        """Metric of the chosen minus that of the untouched, mean over paired seed blocks, 95% interval."""
        metric = self.task.metric
        return paired_difference_interval(self.chosen.blocks[metric], self.untouched.blocks[metric])

    @property
    def helps(self) -> bool:
        """Whether the whole interval lies on the better side of 0."""
        return self.gain.high < 0 if self.task.lower_is_better else self.gain.low > 0

    @property
    def recommended(self) -> dict[str, Any]:
        """Complete settings of Skip-Tuning: the chosen ones if they help, else rho = 1."""
        return self.task.intervention(self.search.chosen.settings if self.helps else UNTOUCHED)

    @property
    def images(self) -> int:
        """Images that the search looked at."""
        return len(self.search.trials) * len(self.task.effort.seeds.seeds)

    @property
    def evaluations(self) -> int:
        """Network evaluations of these images."""
        return self.images * self.nfe

    @property
    def exhaustive(self) -> int:
        """Those of every point of the space on all selection seeds."""
        return self.task.space.size * len(self.task.effort.seeds.seeds) * self.nfe

    @property
    def cost(self) -> float:
        """Cost of the search over that of the exhaustive grid."""
        return self.evaluations / self.exhaustive


@dataclass
class SelectionValues:
    """The objective of a search: measured through the run store, every record kept by its id."""

    task: Task
    bench: Bench
    results: dict[str, Result] = field(default_factory=dict)
    tried: int = 0

    def __call__(self, settings: Sequence[Mapping[str, Choice]], seeds: SeedBlocks) -> list[float]:
        first, self.tried = self.tried + 1, self.tried + len(settings)
        those = f"{first}" if first == self.tried else f"{first}-{self.tried}"
        self.bench.label = f"search, point {those} of {self.task.effort.points(self.task.space)}"
        found = self.bench.measure([self.task.measurement(one, seeds) for one in settings])
        self.results |= {result.record: result for result in found}
        return [result.value(self.task.metric).value for result in found]


def tune(task: Task, bench: Bench) -> Tuned:
    """Search and report; everything that is in the run store already is read from there.

    Raises:
        SkiptuneError: a measurement failed.
    """
    objective = SelectionValues(task, bench)
    found = search(task.space, objective, task.effort, task.lower_is_better)
    bench.label = "report seeds"
    chosen, untouched = bench.measure(
        [task.measurement(settings, task.report) for settings in (found.chosen.settings, UNTOUCHED)]
    )
    counts = {result.nfe for result in objective.results.values()}
    if len(counts) != 1:
        raise SkiptuneError(f"the conditions took {sorted(counts)} network evaluations: they do not compare")
    records = (*objective.results, chosen.record, untouched.record)
    return Tuned(task, found, chosen, untouched, counts.pop(), records)
