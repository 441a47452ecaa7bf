"""The factors of S2-DM's loss in every reading, and its closed-form minimiser."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from skiptune.denoisers.discrete import vp_alphas
from skiptune.errors import SkiptuneError
from skiptune.skip_step import READINGS, SkipStep, alpha_skip

DDPM = vp_alphas("linear", 1e-4, 0.02)
BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist()


@pytest.mark.parametrize("skip", [1, 2, 10, 50])
def test_product_of_steps_is_a_ratio_of_cumulative_products(skip: int) -> None:
    found = alpha_skip(DDPM, skip)
    for time in (0, 1, skip - 1, skip, 500, 999):
        product = math.prod(1 - beta for beta in BETAS[max(0, time - skip + 1) : time + 1])
        assert float(found[time]) == pytest.approx(product, rel=1e-12)
    torch.testing.assert_close(found[skip:], DDPM[skip:] / DDPM[:-skip], rtol=1e-12, atol=0)
    torch.testing.assert_close(found[:skip], DDPM[:skip], rtol=1e-12, atol=0)


def test_product_of_the_schedules_own_values() -> None:
    found = alpha_skip(DDPM, 3, "schedule")
    for time in (0, 1, 2, 700):
        product = math.prod(DDPM[max(0, time - 2) : time + 1].tolist())
        assert float(found[time]) == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize(
    ("factor", "skip", "largest", "mean", "low", "high"),
    [
        ("eq12", 2, 0.203, 0.750, 1.0001, 1.0016),
        ("eq12", 10, 0.472, 0.492, 1.0001, 1.0025),
        ("eq12", 50, 1.296, 0.168, 0.9962, 1.0025),
        ("eq11", 2, 1.41, 0.167, 0.994, 1.0),
        ("eq11", 10, 3.10, 4.22, 0.940, 1.0),
        ("eq11", 50, 6.36, 24.6, 0.755, 1.0),
    ],
)
def test_values_on_ddpms_schedule(
    factor: str, skip: int, largest: float, mean: float, low: float, high: float
) -> None:
    reading = SkipStep(skip, factor=factor)
    c, s = reading.factors(DDPM), reading.minimiser(DDPM)
    assert float(c.max()) == pytest.approx(largest, rel=2e-3)
    assert float(((1 - c) ** 2).mean()) == pytest.approx(mean, rel=3e-3)
    assert (float(s.min()), float(s.max())) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-5))


def test_weight_on_the_skip_term_would_scale_the_noise_several_times() -> None:
    s = SkipStep(10, weights="algorithm1").minimiser(DDPM)
    assert float(s.min()) == pytest.approx(1.97, abs=5e-3) and float(s.max()) == pytest.approx(5.5, abs=5e-3)


@pytest.mark.parametrize(
    "reading",
    [dict(zip(READINGS, values, strict=True)) for values in itertools.product(*READINGS.values())],
    ids=lambda reading: "-".join(reading.values()),
)
def test_loss_is_the_parabola_about_its_minimiser(reading: dict[str, Any]) -> None:
    """``w_0 (n - e)^2 + w_skip (n - c e)^2 - a (e - s n)^2`` does not depend on the prediction e."""
    step = SkipStep(2, 0.7, **reading)
    alphas = vp_alphas("linear", 1e-2, 0.1, 8)
    c, s, a = step.factors(alphas), step.minimiser(alphas), step.loss_weights(alphas)
    plain, skipping = step.term_weights(alphas)
    n = 0.8
    e = torch.tensor([[-1.0], [0.3], [2.0]], dtype=torch.float64)
    rest = plain * (n - e) ** 2 + skipping * (n - c * e) ** 2 - a * (e - s * n) ** 2
    rest = rest[:, step.first_time :]
    torch.testing.assert_close(rest, rest[:1].expand(3, -1), rtol=1e-12, atol=1e-12)


class TestReadingsDifferExactlyWhereTheyShould:
    def test_weights_are_exchanged(self) -> None:
        one = SkipStep(10, 0.75, weights="eq13").minimiser(DDPM)
        assert torch.equal(one, SkipStep(10, 0.25, weights="algorithm1").minimiser(DDPM))
        assert not torch.isclose(one, SkipStep(10, 0.75, weights="algorithm1").minimiser(DDPM)).any()

    @pytest.mark.parametrize("other", ["exclude", "drop"])
    def test_early_times_are_those_before_skip(self, other: str) -> None:
        truncated = SkipStep(10, 0.5).minimiser(DDPM)
        found = SkipStep(10, 0.5, early=other).minimiser(DDPM)
        equal = truncated == found
        assert equal.tolist() == [False] * 9 + [True] * 991  # the paper's t = 1..9
        assert torch.equal(found[:9], torch.ones(9, dtype=torch.float64))
        assert SkipStep(1, early=other).minimiser(DDPM).equal(SkipStep(1).minimiser(DDPM))

    def test_dropping_leaves_the_weight_of_the_plain_term(self) -> None:
        weights = SkipStep(10, 0.75, early="drop").loss_weights(DDPM)
        assert torch.equal(weights[:9], torch.full((9,), 0.75, dtype=torch.float64))
        assert (weights[9:] > 0.75).all()

    def test_excluded_times_are_not_drawn(self) -> None:
        assert [SkipStep(10, early=early).first_time for early in READINGS["early"]] == [0, 9, 0]

    def test_equations_differ_by_their_denominators(self) -> None:
        product, alpha = alpha_skip(DDPM, 10), alpha_skip(DDPM, 1)
        ratio = SkipStep(10, factor="eq11").factors(DDPM) / SkipStep(10, factor="eq12").factors(DDPM)
        torch.testing.assert_close(ratio, (product / (1 - alpha)).sqrt(), rtol=1e-10, atol=0)

    def test_symbol_of_alpha(self) -> None:
        per_step, cumulative = SkipStep(2).factors(DDPM), SkipStep(2, alpha="schedule").factors(DDPM)
        assert torch.isclose(per_step, cumulative).tolist() == [True] + [False] * 999
        nothing_accumulated = vp_alphas("linear_per_step", 1e-4, 0.02)
        third = SkipStep(2, alpha="schedule").factors(nothing_accumulated)
        torch.testing.assert_close(third, per_step, rtol=1e-9, atol=0)
        assert float(SkipStep(10, alpha="schedule").factors(DDPM).max()) > 1e20  # "astronomically large"


@pytest.mark.parametrize("reading", [{"tau": 1.0}, {"tau": 0.0, "weights": "algorithm1"}])
def test_without_the_skip_term_nothing_is_scaled(reading: dict[str, Any]) -> None:
    step = SkipStep(50, **reading)
    ones = torch.ones(1000, dtype=torch.float64)
    assert torch.equal(step.minimiser(DDPM), ones) and torch.equal(step.loss_weights(DDPM), ones)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"skip": 0}, "skip is 0, it must be a whole number from 1"),
        ({"skip": 10.0}, "skip is 10.0, it must be a whole number"),
        ({"skip": True}, "skip is True, it must be a whole number"),
        ({"tau": 1.5}, r"tau is 1.5, it must be a number in \[0, 1\]"),
        ({"tau": None}, "tau is None, it must be a number"),
        ({"tau": math.nan}, "tau is nan, it must be a number"),
        ({"weights": "13"}, "unknown weights '13' of the skip-step loss; choose one of eq13, algorithm1"),
        ({"early": "cut"}, "unknown early 'cut' .* truncate, exclude, drop"),
    ],
)
def test_mistakes_are_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(SkiptuneError, match=line) as caught:
        SkipStep(**values)
    assert "\n" not in str(caught.value)


def test_schedules_that_do_not_fit() -> None:
    with pytest.raises(SkiptuneError, match="skip 1000 is as long as the schedule of 1000 times"):
        SkipStep(1000).factors(DDPM)
    with pytest.raises(SkiptuneError, match="factor of skip 500 is not finite; use alpha per_step"):
        SkipStep(500, alpha="schedule").factors(DDPM)
