"""A Gaussian fitted to features: additive sums, so chunks can be merged, or the rows themselves if few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

# Means from here on, in standard deviations, are taken out before products: below, these keep 12 digits.
OFFSET = 100

# Features widened to float64 at a time, so that 50,000 x 2048 need 128 MiB beside them.
_WIDENED = 2**24


@dataclass(frozen=True)
class GaussianStatistics:
    """Count n, total = sum_i g_i [d] and outer = sum_i g_i g_i^T [d, d] of g_i = f_i - shift, in float64.

    The covariance loses (mean of g / std)^2 * 2e-16 of itself by cancellation: nothing without a shift for
    pooled activations, whose mean and std are of like size; where means are far larger, they are the shift.
    """

    count: int
    total: Tensor
    outer: Tensor
    shift: Tensor

    @classmethod
    def from_features(cls, features: Tensor) -> GaussianStatistics:
        """Statistics of features [N, d]. Raises SkiptuneError if they are not a finite matrix."""
        parts = (_finite(part) for part in _parts(features))
        first = next(parts)
        shift = _shift(first)
        first = first - shift if shift.any() else first
        total, outer = first.sum(0), first.T @ first
        for f in parts:
            f = f - shift if shift.any() else f
            total += f.sum(0)
            outer.addmm_(f.T, f)
        return cls(len(features), total, outer, shift)

    @classmethod
    def merge(cls, parts: Sequence[GaussianStatistics]) -> GaussianStatistics:
        """Sum of the parts, from first to last: a fixed order gives the same bits for any worker count."""
        if not parts:
            raise SkiptuneError("no statistics to merge: compute at least one chunk")
        merged = parts[0]
        for part in parts[1:]:
            merged = merged + part
        return merged

    def __add__(self, other: GaussianStatistics) -> GaussianStatistics:
        if self.dimension != other.dimension:
            raise SkiptuneError(
                f"statistics of {self.dimension} and {other.dimension} features do not add: use one extractor"
            )
        other = other.about(self.shift)
        return GaussianStatistics(
            self.count + other.count, self.total + other.total, self.outer + other.outer, self.shift
        )

    def about(self, shift: Tensor) -> GaussianStatistics:
        """The same images with sums about this shift [d]."""
        if torch.equal(shift, self.shift):
            return self
        step = self.shift - shift
        cross = torch.outer(step, self.total + self.count / 2 * step)
        return GaussianStatistics(
            self.count, self.total + self.count * step, self.outer + cross + cross.T, shift
        )

    @property
    def dimension(self) -> int:
        """Number of features d."""
        return len(self.total)

    @property
    def mean(self) -> Tensor:
        """Mean [d], float64. Raises SkiptuneError without images."""
        if self.count < 1:
            raise SkiptuneError("a mean needs at least 1 image")
        return self.shift + self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance [d, d], float64, divided by n - 1 as in EDM. Raises SkiptuneError if n < 2."""
        if self.count < 2:
            raise SkiptuneError(f"a covariance needs at least 2 images, got {self.count}")
        centre = torch.outer(self.total, self.total).div_(self.count)
        return torch.sub(self.outer, centre, out=centre).div_(self.count - 1)


@dataclass(frozen=True)
class LowRankGaussian:
    """Mean [d] and rows [n, d], float64, with covariance rows^T rows: no d x d matrix for n <= d images."""

    mean: Tensor
    rows: Tensor

    @classmethod
    def from_features(cls, features: Tensor) -> LowRankGaussian:
        """Gaussian of features [n, d]. SkiptuneError unless it is a finite matrix of 2 or more rows."""
        f = torch.cat([_finite(part) for part in _parts(features)])
        if len(f) < 2:
            raise SkiptuneError(f"a covariance needs at least 2 images, got {len(f)}")
        mean = f.mean(0)
        return cls(mean, (f - mean) / (len(f) - 1) ** 0.5)


def fit_gaussian(features: Tensor) -> GaussianStatistics | LowRankGaussian:
    """The Gaussian of features [N, d] in its smaller form. Raises SkiptuneError as the two do."""
    few = features.ndim == 2 and 2 <= len(features) <= features.shape[1]
    return LowRankGaussian.from_features(features) if few else GaussianStatistics.from_features(features)


def _parts(features: Tensor) -> tuple[Tensor, ...]:
    if features.ndim != 2:
        raise SkiptuneError(f"features must have shape [N, d], got {list(features.shape)}")
    return features.split(max(1, _WIDENED // max(1, features.shape[1])))


def _shift(features: Tensor) -> Tensor:
    """Their mean [d] if one of them is OFFSET standard deviations away from zero, else zero."""
    if len(features) == 0:
        return features.new_zeros(features.shape[1])
    variance, mean = torch.var_mean(features, 0, correction=0)
    return mean if (mean.square() > OFFSET**2 * variance).any() else torch.zeros_like(mean)


def _finite(features: Tensor) -> Tensor:
    if not torch.isfinite(features).all():
        raise SkiptuneError("features contain NaN or infinity: check the generated images")
    return features.detach().to("cpu", torch.float64)
