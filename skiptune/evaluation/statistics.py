"""Sufficient statistics of a Gaussian fitted to features: additive over images, so chunks can be merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class GaussianStatistics:
    """Count n, total = sum_i f_i [d] and outer = sum_i f_i f_i^T [d, d] of features f_i, in float64.

    The sums are taken about zero, without a shift: the covariance loses about (mean/std)^2 * 2e-16 relative
    accuracy by cancellation, which is nothing for pooled activations (mean and std of like size).
    """

    count: int
    total: Tensor
    outer: Tensor

    @classmethod
    def from_features(cls, features: Tensor) -> GaussianStatistics:
        """Statistics of features [N, d]. Raises SkiptuneError if they are not a finite matrix."""
        if features.ndim != 2:
            raise SkiptuneError(f"features must have shape [N, d], got {list(features.shape)}")
        if not torch.isfinite(features).all():
            raise SkiptuneError("features contain NaN or infinity: check the generated images")
        f = features.detach().to("cpu", torch.float64)
        return cls(len(f), f.sum(0), f.T @ f)

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
        return GaussianStatistics(
            self.count + other.count, self.total + other.total, self.outer + other.outer
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
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance [d, d], float64, divided by n - 1 as in EDM. Raises SkiptuneError if n < 2."""
        if self.count < 2:
            raise SkiptuneError(f"a covariance needs at least 2 images, got {self.count}")
        centred = self.outer - torch.outer(self.total, self.total) / self.count
        return centred / (self.count - 1)
