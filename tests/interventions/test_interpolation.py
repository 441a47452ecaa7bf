import re

import pytest

from skiptune.errors import SkiptuneError
from skiptune.interventions import interpolate_rho

FIVE = [True] * 5


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        ("inclusive", [0.6, 0.7, 0.8, 0.9, 1.0]),
        ("from_bottom", [0.6, 0.68, 0.76, 0.84, 0.92]),
        ("to_top", [0.68, 0.76, 0.84, 0.92, 1.0]),
        ("matching", [0.6, 0.7, 0.8, 0.9, 1.0]),
    ],
)
def test_readings_of_the_formula(reading, expected):
    assert interpolate_rho(FIVE, 0.6, 1.0, reading) == pytest.approx(expected, abs=1e-15)
    assert interpolate_rho(FIVE, 0.6, 1.0, reading, bottom_first=False) == pytest.approx(
        expected[::-1], abs=1e-15
    )


def test_matching_leaves_other_sites_alone():
    matching = [False, True, True, False, True]
    assert interpolate_rho(matching, 0.6, 0.8, "matching") == pytest.approx((1, 0.6, 0.7, 1, 0.8), abs=1e-15)
    reverse = interpolate_rho(matching, 0.6, 0.8, "matching", bottom_first=False)
    assert reverse == pytest.approx((1, 0.8, 0.7, 1, 0.6), abs=1e-15)
    assert interpolate_rho(matching, 0.6, 1.0) == interpolate_rho(FIVE, 0.6, 1.0)
    assert interpolate_rho([False, False], 0.5, reading="matching") == (1, 1)


@pytest.mark.parametrize("reading", ["inclusive", "from_bottom", "to_top", "matching"])
def test_equal_ends_are_exact_everywhere(reading):
    for rho in (1.0, 0.1, 0.7, 1 / 3):
        assert interpolate_rho([True] * 7, rho, rho, reading) == (rho,) * 7


def test_both_ends_are_exact():
    assert 0.03 + (0.29 - 0.03) != 0.29  # what the bare formula would give
    rho = interpolate_rho([True] * 4, 0.03, 0.29)
    assert (rho[0], rho[-1]) == (0.03, 0.29)
    assert interpolate_rho([True], 0.8) == (0.8,)


@pytest.mark.parametrize("bad", [0, -0.1, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["rho_bottom", "rho_top"])
def test_coefficients_out_of_range(name, bad):
    with pytest.raises(SkiptuneError, match=rf"{name} is .*, it must lie in \(0, 1\]"):
        interpolate_rho(FIVE, **{"rho_bottom": 0.8, name: bad})


@pytest.mark.parametrize("bad", ["0.8", None, True, [0.8]])
def test_coefficients_that_are_no_numbers(bad):
    with pytest.raises(SkiptuneError, match=rf"rho_bottom is {re.escape(repr(bad))}, it must be a number in"):
        interpolate_rho(FIVE, bad)


def test_unknown_reading():
    with pytest.raises(SkiptuneError, match="unknown reading 'upside_down'.*inclusive"):
        interpolate_rho(FIVE, 0.8, reading="upside_down")
