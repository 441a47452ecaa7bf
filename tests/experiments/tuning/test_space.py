"""The space of a search: values as a user writes them, one line for what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.tuning.space import Space
from skiptune.errors import SkiptuneError

RHO = {"low": 0.05, "high": 0.95, "step": 0.05}


def test_a_range_has_decimal_values_with_both_ends() -> None:
    values = Space.of({"rho_bottom": RHO}).choices["rho_bottom"]
    assert values == tuple(float(f"{i / 20:g}") for i in range(1, 20))
    assert Space.of({"rho_bottom": {"low": 0.5, "high": 0.95, "step": 0.2}}).choices["rho_bottom"] == (
        0.5,
        0.7,
        0.9,
    )


def test_fixed_settings_are_part_of_every_point_but_not_free() -> None:
    space = Space.of({"rho_bottom": RHO, "rho_top": 1, "time_direction": [None, "increasing"]})
    assert space.free == ("rho_bottom", "time_direction")
    assert space.size == 38 and len(list(space.points())) == 38
    assert space.at((1, 0, 1)) == {"rho_bottom": 0.1, "rho_top": 1.0, "time_direction": "increasing"}


def test_an_edge_is_the_lowest_or_highest_value_but_for_the_untouched_network() -> None:
    space = Space.of({"rho_bottom": RHO, "rho_top": [0.8, 0.9, 1.0], "time_direction": [None, "increasing"]})
    for settings, edges in (
        ({"rho_bottom": 0.05, "rho_top": 0.8, "time_direction": None}, ("rho_bottom", "rho_top")),
        ({"rho_bottom": 0.95, "rho_top": 0.9, "time_direction": "increasing"}, ("rho_bottom",)),
        ({"rho_bottom": 0.5, "rho_top": 1.0, "time_direction": None}, ()),
    ):
        assert space.edges(settings) == edges


@pytest.mark.parametrize(
    "config, wanted",
    [
        (5, "space is 5"),
        ({"rho_bottom": 0.5}, "every setting of the space is fixed"),
        ({"sharpness": [0.1, 0.2]}, "space.sharpness cannot be tuned; there are rho_bottom"),
        ({"rho_bottom": []}, "at least one value"),
        ({"rho_bottom": [0.5, 0.5]}, "each once"),
        ({"rho_bottom": {"low": 0.1, "high": 0.9}}, "a range is {low, high, step}"),
        ({"rho_bottom": {"low": 0.1, "high": 0.9, "step": "big"}}, "in numbers"),
        ({"rho_bottom": {"low": 0.1, "high": 0.9, "step": 0.0}}, "step must be positive"),
        ({"rho_bottom": {"low": 0.9, "high": 0.1, "step": 0.1}}, "low at most high"),
        ({"rho_bottom": {"low": 0.0, "high": 0.9, "step": 0.1}}, "rho_bottom is 0.0"),
        ({"rho_bottom": [0.5, 1.5]}, "rho_bottom is 1.5"),
        ({"rho_bottom": [0.5, "high"]}, "rho_bottom is 'high', it must be a number"),
        ({"rho_bottom": RHO, "time_direction": ["sideways"]}, "unknown time direction 'sideways'"),
    ],
)
def test_what_is_no_space_is_refused(config: Any, wanted: str) -> None:
    with pytest.raises(SkiptuneError) as caught:
        Space.of(config)
    assert wanted in str(caught.value) and "\n" not in str(caught.value)
