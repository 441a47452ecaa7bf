"""The search: a spread start, then what the optimiser proposes, every point on the same selection seeds.

On fixed seeds a metric is a smooth function of rho, so few points suffice. Fewer images do not: on
others the optimum may lie elsewhere (results/benchmarks/tuning_cpu.md, by selection seeds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.measurement import SeedBlocks
from experiments.tuning.propose import propose, starting_points
from experiments.tuning.space import Choice, Point, Space
from skiptune.errors import SkiptuneError

Objective = Callable[[Sequence[dict[str, Choice]], SeedBlocks], Sequence[float]]
"""Values of several settings on the same seeds; they may be computed at once."""


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Attributes:
        seeds: the selection seeds.
        trials: points tried; unless given 4 for one free setting and 6 more for each further one. The first,
            one and two per free setting, are spread.
        optimiser_seed: of the spread and of the optimiser.

    Raises:
        SkiptuneError: fewer than 3 trials, no whole numbers.
    """

    seeds: SeedBlocks
    trials: int | None = None
    optimiser_seed: int = 0

    def __post_init__(self) -> None:
        wanted = {"optimiser_seed": (self.optimiser_seed, 0)}
        if self.trials is not None:
            wanted["trials"] = (self.trials, 3)
        for name, (value, least) in wanted.items():
            if type(value) is not int or value < least:
                raise SkiptuneError(f"{name} is {value!r}, it must be a whole number from {least}")

    def points(self, space: Space) -> int:
        """How many points of the space are tried."""
        wanted = 6 * len(space.free) - 2 if self.trials is None else self.trials
        return min(wanted, space.size)


@dataclass(frozen=True)
class Trial:
    """A point that was tried, and its value."""

    settings: dict[str, Choice]
    value: float


@dataclass(frozen=True)
class Search:
    """Everything tried, in order, and the best of it."""

    trials: tuple[Trial, ...]
    chosen: Trial


def search(space: Space, objective: Objective, effort: Effort, lower_is_better: bool = True) -> Search:
    """Find the point of ``space`` with the best value on the selection seeds.

    The same objective and seed of the optimiser give the same search.
    """
    count, seed = effort.points(space), effort.optimiser_seed
    values: dict[Point, float] = {}

    def look(points: Sequence[Point]) -> None:
        found = objective([space.at(point) for point in points], effort.seeds)
        values.update(zip(points, found, strict=True))

    look(starting_points(space, min(1 + 2 * len(space.free), count), seed))
    while len(values) < count:
        look([propose(space, values, seed, lower_is_better)])
    best = (min if lower_is_better else max)(values, key=lambda point: values[point])
    trials = {point: Trial(space.at(point), value) for point, value in values.items()}
    return Search(tuple(trials.values()), trials[best])
