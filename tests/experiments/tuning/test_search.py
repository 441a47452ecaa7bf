"""The search on objectives with a known optimum: found within budget, despite noise, the same every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from experiments.measurement import SeedBlocks
from experiments.tuning.propose import propose, starting_points
from experiments.tuning.search import Effort, Objective, search
from experiments.tuning.space import Space
from skiptune.errors import SkiptuneError

SEEDS = SeedBlocks(0, 1, 500)
EFFORT = Effort(SEEDS)
LINE = Space.of({"rho_bottom": {"low": 0.05, "high": 0.95, "step": 0.05}, "rho_top": 1.0})
WHOLE = Space.of(
    {
        "rho_bottom": {"low": 0.05, "high": 0.95, "step": 0.05},
        "rho_top": {"low": 0.5, "high": 1.0, "step": 0.1},
        "time_direction": [None, "increasing", "decreasing"],
    }
)
Settings = dict[str, Any]


class Counted:
    """Counts the points it is asked for; noise of its own at every point."""

    def __init__(self, truth: Callable[[Settings], float], noise: float = 0.0, seed: int = 0) -> None:
        self.truth, self.noise, self.seed = truth, noise, seed
        self.seen: list[Settings] = []

    def __call__(self, settings: Sequence[Settings], seeds: SeedBlocks) -> list[float]:
        assert seeds == SEEDS
        self.seen += settings
        draws = [np.random.default_rng([self.seed, *repr(one).encode()]) for one in settings]
        return [
            self.truth(one) * math.exp(self.noise * rng.standard_normal())
            for one, rng in zip(settings, draws, strict=True)
        ]


def valley(optimum: float) -> Callable[[Settings], float]:
    """Flat near its optimum, 40, and growing by factors away from it."""
    return lambda one: 40 * math.exp(6 * (one["rho_bottom"] - optimum) ** 2)


@pytest.mark.parametrize("optimum", [0.05, 0.2, 0.45, 0.7, 0.9, 0.95])
@pytest.mark.parametrize("seed", [0, 1])
def test_known_optimum_is_found_at_a_quarter_of_the_grid(optimum: float, seed: int) -> None:
    objective = Counted(valley(optimum))
    found = search(LINE, objective, Effort(SEEDS, optimiser_seed=seed))
    assert objective.truth(found.chosen.settings) <= 1.02 * 40
    assert len(found.trials) == len(objective.seen) == 4 <= LINE.size / 4


def test_optimum_of_three_settings_is_found() -> None:
    def truth(one: Settings) -> float:
        away = 0.0 if one["time_direction"] == "decreasing" else 0.5
        return 40 * math.exp(3 * (one["rho_bottom"] - 0.35) ** 2 + 3 * (one["rho_top"] - 0.8) ** 2 + away)

    objective = Counted(truth)
    found = search(WHOLE, objective, EFFORT)
    assert truth(found.chosen.settings) <= 1.02 * 40
    assert len(found.trials) == len(objective.seen) == 16


@pytest.mark.parametrize("optimum", [0.3, 0.8])
def test_noise_leads_hardly_further_astray_than_it_leads_the_grid(optimum: float) -> None:
    """Noise of 5%: in truth the choice is on average within 5% of the grid's, which sees all the points."""
    truth, ours, grids = valley(optimum), [], []
    grid = [LINE.at(point) for point in LINE.points()]
    for seed in range(20):
        objective = Counted(truth, noise=0.05, seed=seed)
        ours.append(truth(search(LINE, objective, EFFORT).chosen.settings))
        grids.append(truth(grid[int(np.argmin(objective(grid, SEEDS)))]))
    assert np.mean(grids) > 40  # the noise does mislead
    assert np.mean(ours) <= 1.05 * np.mean(grids)


def test_higher_can_be_better() -> None:
    def recall(settings: Sequence[Settings], seeds: SeedBlocks) -> list[float]:
        return [0.8 - (one["rho_bottom"] - 0.3) ** 2 for one in settings]

    assert search(LINE, recall, EFFORT, lower_is_better=False).chosen.settings["rho_bottom"] == 0.3


def test_values_below_zero_are_no_obstacle() -> None:
    def kid(settings: Sequence[Settings], seeds: SeedBlocks) -> list[float]:
        return [(one["rho_bottom"] - 0.6) ** 2 - 0.01 for one in settings]

    assert abs(search(LINE, kid, EFFORT).chosen.settings["rho_bottom"] - 0.6) < 0.06


def test_the_same_seed_gives_the_same_search_and_another_seed_need_not() -> None:
    objective: Objective = Counted(valley(0.6), noise=0.05)
    searches = [search(WHOLE, objective, Effort(SEEDS, optimiser_seed=seed)) for seed in (0, 0, 1)]
    assert searches[0] == searches[1] != searches[2]


def test_a_small_space_is_searched_completely_and_nothing_twice() -> None:
    space = Space.of({"rho_bottom": [0.2, 0.5, 0.8]})
    found = search(space, Counted(valley(0.5)), EFFORT)
    assert sorted(trial.settings["rho_bottom"] for trial in found.trials) == [0.2, 0.5, 0.8]
    assert found.chosen.settings == {"rho_bottom": 0.5}


def test_start_is_spread_over_every_setting() -> None:
    points = starting_points(WHOLE, 10, seed=3)
    assert len(set(points)) == 10
    bottoms = sorted(point[0] for point in points)
    assert bottoms[0] == 0 and bottoms[-1] == 18 and max(np.diff(bottoms)) == 2
    assert {point[1] for point in points} == set(range(6)) and {point[2] for point in points} == {0, 1, 2}


def test_only_untried_points_are_proposed() -> None:
    tried: dict[tuple[int, ...], float] = {(9, 0): 40.0, (0, 0): 100.0}
    while len(tried) < LINE.size:
        point = propose(LINE, tried, seed=0)
        assert point not in tried
        tried[point] = 40.0 + abs(point[0] - 9)
    with pytest.raises(ValueError, match="every point"):
        propose(LINE, tried, seed=0)


@pytest.mark.parametrize(
    "change, wanted",
    [
        ({"trials": 2}, "trials is 2, it must be a whole number from 3"),
        ({"trials": "many"}, "trials is 'many'"),
        ({"optimiser_seed": -1}, "optimiser_seed is -1"),
    ],
)
def test_impossible_effort_is_refused(change: dict[str, Any], wanted: str) -> None:
    with pytest.raises(SkiptuneError, match=wanted):
        Effort(SEEDS, **change)
