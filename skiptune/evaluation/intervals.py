"""Confidence intervals over seed blocks (Student t; Fieller for ratios of means), and of shares (Wilson)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its confidence interval and the number n of seed blocks behind it."""

    value: float
    low: float
    high: float
    n: int


def block_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of one value per seed block, +- t * s / sqrt(n). Raises SkiptuneError below 2 finite values.

    The blocks must be disjoint and of equal size. FID falls with the number of images (bias about 1/N), so
    the mean over blocks of N images is an FID at N images.
    """
    x = _checked(values, confidence)
    value = float(x.mean())
    half = float(stdtrit(len(x) - 1, (1 + confidence) / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(value, value - half, value + half, len(x))


def share_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of values between 0 and 1, one per independent case, with Wilson's score interval (Wilson 1927).

    Of values that are 0 or 1 it holds its confidence where that of Student's t does not, all of one kind
    included; of values in between it is wider than need be. Its bounds lie in [0, 1].

    Raises:
        SkiptuneError: below 2 finite values, or one outside of [0, 1].
    """
    x = _checked(values, confidence)
    if x.min() < 0 or x.max() > 1:
        raise SkiptuneError(f"a share lies between 0 and 1, got {x.min():g} to {x.max():g}")
    value, n, z = float(x.mean()), len(x), float(ndtri((1 + confidence) / 2))
    centre = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    # At 0 and 1 a bound is the value itself, up to rounding.
    return Interval(value, min(max(centre - half, 0.0), value), max(min(centre + half, 1.0), value), n)


def paired_difference_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of the mean of a - b, paired by block. Raises SkiptuneError if the lengths differ."""
    x, y = _pair(a, b)
    return block_interval(list(x - y), confidence)


def paired_ratio_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of the geometric mean of a / b, paired by block: the t interval of log(a / b), exponentiated.

    Raises SkiptuneError if the lengths differ or a value is not positive.
    """
    x, y = _pair(a, b)
    if not ((x > 0).all() and (y > 0).all()):
        raise SkiptuneError("a ratio interval needs positive values: use paired_difference_interval")
    log = block_interval(list(np.log(x) - np.log(y)), confidence)
    return Interval(math.exp(log.value), math.exp(log.low), math.exp(log.high), log.n)


def ratio_of_means_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of mean(a) / mean(b), paired by block: those m at which the t interval of a - m b holds 0.

    Fieller 1954, "Some problems in interval estimation". Neither a nor b need be positive.

    Raises:
        SkiptuneError: the lengths differ; the t interval of b holds 0, where the bounds are infinite.
    """
    x, y = _pair(a, b)
    x, y = _checked(x, confidence), _checked(y, confidence)
    n = len(x)
    (xx, xy), (_, yy) = np.cov(x, y) * float(stdtrit(n - 1, (1 + confidence) / 2)) ** 2 / n
    top, bottom = float(x.mean()), float(y.mean())
    scale = bottom**2 - yy
    if scale <= 0:
        raise SkiptuneError("the ratio has no bounds: its denominator is not certain to differ from 0")
    middle = top * bottom - xy
    # middle^2 - scale (top^2 - xx), without the terms that cancel.
    square = top**2 * yy + bottom**2 * xx - 2 * top * bottom * xy + xy**2 - xx * yy
    half = math.sqrt(max(square, 0.0))
    return Interval(top / bottom, (middle - half) / scale, (middle + half) / scale, n)


def _checked(values: Sequence[float] | np.ndarray, confidence: float) -> np.ndarray:
    if not 0 < confidence < 1:
        raise SkiptuneError(f"confidence must lie between 0 and 1, got {confidence}")
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2:
        raise SkiptuneError(f"an interval needs at least 2 seed blocks, got {x.size}: use more blocks")
    if not np.isfinite(x).all():
        raise SkiptuneError("a seed block has no finite value: look for the failed chunk")
    return x


def _pair(a: Sequence[float], b: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise SkiptuneError(f"{x.size} and {y.size} values do not pair: use the same seed blocks")
    return x, y
