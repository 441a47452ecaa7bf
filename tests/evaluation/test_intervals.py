from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import (
    Interval,
    block_interval,
    paired_difference_interval,
    paired_ratio_interval,
    ratio_of_means_interval,
    share_interval,
)

TRIALS = 2000
# 95% nominal coverage: 2000 trials have a standard error of 0.5%, so these bounds are 4 of them wide.
LOWEST, HIGHEST = 0.93, 0.97


def covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize("blocks", [2, 5])
def test_block_interval_covers_the_mean_as_often_as_it_says(blocks: int) -> None:
    rng = np.random.default_rng(0)
    hits = [covers(block_interval(rng.normal(7, 2, blocks)), 7) for _ in range(TRIALS)]
    assert LOWEST < np.mean(hits) < HIGHEST


def test_paired_intervals_cover_and_use_the_pairing() -> None:
    rng = np.random.default_rng(1)
    ratio, difference = [], []
    for _ in range(TRIALS):
        common = rng.normal(0, 1, 6)  # shared by both arms: far larger than the noise of either
        x, y = common + rng.normal(0.1, 0.05, 6), common + rng.normal(0, 0.05, 6)
        difference.append(paired_difference_interval(x, y))
        ratio.append(paired_ratio_interval(np.exp(x), np.exp(y)))
    assert LOWEST < np.mean([covers(i, 0.1) for i in difference]) < HIGHEST
    assert LOWEST < np.mean([covers(i, np.exp(0.1)) for i in ratio]) < HIGHEST
    assert np.mean([i.high - i.low for i in difference]) < 0.3  # unpaired it would be about 2.5


def test_block_interval_is_the_t_interval_of_scipy() -> None:
    values = [3.1, 2.9, 3.4, 3.0]
    low, high = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    interval = block_interval(values, confidence=0.9)
    assert (interval.low, interval.high, interval.n) == (pytest.approx(low), pytest.approx(high), 4)
    assert interval.value == pytest.approx(3.1)


@pytest.mark.parametrize(("held", "cases"), [(0, 2), (0, 20), (1, 48), (7, 10), (47, 48), (40, 40)])
def test_share_interval_is_wilsons_of_scipy(held: int, cases: int) -> None:
    found = share_interval([1.0] * held + [0.0] * (cases - held), 0.9)
    other = stats.binomtest(held, cases).proportion_ci(0.9, method="wilson")
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=1e-12)
    assert 0 <= found.low <= found.value == held / cases <= found.high <= 1 and found.n == cases


def test_what_is_no_share_has_no_share_interval() -> None:
    with pytest.raises(SkiptuneError, match="a share lies between 0 and 1, got 0 to 1.5"):
        share_interval([0.0, 1.5])


def test_ratio_of_proportional_values_is_exact() -> None:
    interval = paired_ratio_interval([2.0, 4.0, 9.0], [1.0, 2.0, 4.5])
    assert (interval.low, interval.value, interval.high) == pytest.approx((2, 2, 2))


def test_errors() -> None:
    with pytest.raises(SkiptuneError, match="at least 2 seed blocks"):
        block_interval([1.0])
    with pytest.raises(SkiptuneError, match="no finite value"):
        block_interval([1.0, float("nan")])
    with pytest.raises(SkiptuneError, match="confidence"):
        block_interval([1.0, 2.0], confidence=95)
    with pytest.raises(SkiptuneError, match="same seed blocks"):
        paired_difference_interval([1.0, 2.0], [1.0])
    with pytest.raises(SkiptuneError, match="positive"):
        paired_ratio_interval([1.0, -2.0], [1.0, 2.0])


def test_ratio_of_means_covers_where_both_are_uncertain_and_one_may_be_negative() -> None:
    rng = np.random.default_rng(5)
    hits = []
    for _ in range(TRIALS):
        common = rng.normal(0, 0.2, 5)
        hits.append(
            ratio_of_means_interval(common + rng.normal(-0.3, 0.2, 5), common + rng.normal(2, 0.2, 5))
        )
    assert LOWEST < np.mean([covers(i, -0.15) for i in hits]) < HIGHEST


def test_bounds_of_the_ratio_of_means_are_where_the_difference_stops_being_certain() -> None:
    a, b = [1.0, 2.0, 2.5, 1.5], [4.0, 5.0, 4.5, 6.0]
    interval = ratio_of_means_interval(a, b)
    assert interval.value == pytest.approx(np.mean(a) / np.mean(b)) and interval.n == 4
    for bound, side in ((interval.low, "low"), (interval.high, "high")):
        difference = block_interval(list(np.array(a) - bound * np.array(b)))
        assert getattr(difference, side) == pytest.approx(0, abs=1e-12)
    assert ratio_of_means_interval(a, [2.0] * 4).high == pytest.approx(block_interval(a).high / 2)
    with pytest.raises(SkiptuneError, match="its denominator is not certain to differ from 0"):
        ratio_of_means_interval(a, [-1.0, 1.0, 2.0, -2.0])
