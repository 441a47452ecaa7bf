"""Which point to try next: a space-filling start, then a Gaussian process (Optuna's GPSampler).

Stateless: what is proposed follows from what was tried and a seed, so a restarted search proposes the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from experiments.tuning.space import Point, Space
from skiptune.runtime.workers import one_thread


def starting_points(space: Space, count: int, seed: int) -> list[Point]:
    """Up to ``count`` different points, a Latin hypercube with both ends of every setting."""
    rng = np.random.default_rng(seed)
    count = min(count, space.size)
    columns, moved = [], False
    for values in space.choices.values():
        places = np.round(np.linspace(0, len(values) - 1, count)).astype(int)
        columns.append(rng.permutation(places) if moved else places)
        moved = moved or len(values) > 1
    return list(dict.fromkeys(tuple(int(i) for i in point) for point in zip(*columns, strict=True)))


def propose(space: Space, tried: Mapping[Point, float], seed: int, lower_is_better: bool = True) -> Point:
    """The untried point with the highest expected improvement, or the nearest untried one to that.

    The model is fitted to the logarithm where all values are positive: FID grows by factors away from its
    optimum. Raises ValueError if every point was tried.
    """
    untried = [point for point in space.points() if point not in tried]
    if not untried:
        raise ValueError("every point of the space was tried")
    names = space.free
    free = [list(space.choices).index(name) for name in names]
    kinds = {name: distribution(space, name) for name in names}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.GPSampler(seed=seed + len(tried), n_startup_trials=0)
    study = optuna.create_study(sampler=sampler, direction="minimize" if lower_is_better else "maximize")
    logarithm = min(tried.values()) > 0
    for point, value in tried.items():
        study.add_trial(
            optuna.create_trial(
                params={name: point[i] for name, i in zip(names, free, strict=True)},
                distributions=kinds,
                value=math.log(value) if logarithm else value,
            )
        )
    with one_thread():
        asked = study.ask(kinds).params
    wanted = [0] * len(space.choices)
    for name, i in zip(names, free, strict=True):
        wanted[i] = asked[name]
    return min(untried, key=lambda point: (distance(space, point, tuple(wanted)), point))


def distribution(space: Space, name: str) -> BaseDistribution:
    """Indices of the values: in order for numbers, without order for words."""
    values = space.choices[name]
    if ordered(space, name):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution(tuple(range(len(values))))


def ordered(space: Space, name: str) -> bool:
    return all(isinstance(value, float) for value in space.choices[name])


def distance(space: Space, a: Point, b: Point) -> float:
    """Sum over the settings of the distance in units of their range; 1 between different words."""
    total = 0.0
    for name, i, j in zip(space.choices, a, b, strict=True):
        if i != j:
            total += abs(i - j) / (len(space.choices[name]) - 1) if ordered(space, name) else 1.0
    return total
