"""Frechet distance between Gaussians (Dowson & Landau 1982), the FID of Heusel et al. (arXiv 1706.08500)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.statistics import GaussianStatistics

# An eigenvalue below -TOLERANCE * (largest) is no rounding error: float32 statistics stay within 1e-6.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class ReferenceStatistics:
    """Mean [d] and covariance [d, d], float64, of the real images; the covariance's root is computed once.

    Published references (EDM's `mu`, `sigma`) come in this form, without a count.
    """

    mean: Tensor
    covariance: Tensor

    def __post_init__(self) -> None:
        d = self.mean.numel()
        if self.mean.shape != (d,) or self.covariance.shape != (d, d):
            raise SkiptuneError(
                f"a mean of shape {list(self.mean.shape)} and a covariance of shape "
                f"{list(self.covariance.shape)} do not belong together: expected [d] and [d, d]"
            )
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.covariance).all()):
            raise SkiptuneError("statistics contain NaN or infinity: recompute them")

    @classmethod
    def from_statistics(cls, statistics: GaussianStatistics) -> ReferenceStatistics:
        """Mean and covariance of at least 2 images (SkiptuneError otherwise)."""
        return cls(statistics.mean, statistics.covariance)

    @cached_property
    def root(self) -> Tensor:
        """Symmetric square root [d, d] of the covariance."""
        values, vectors = torch.linalg.eigh(self.covariance.to(torch.float64))
        return (vectors * _root(values)) @ vectors.T


def frechet_distance(
    a: GaussianStatistics | ReferenceStatistics, b: GaussianStatistics | ReferenceStatistics
) -> float:
    """|m_a - m_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_b^1/2 C_a C_b^1/2)^1/2), by symmetric eigenvalues, float64.

    The last matrix is similar to C_a C_b and symmetric, so no general (complex) matrix root is needed. Pass
    the reference as `b`, as `ReferenceStatistics`, to compute its root once for many samples.
    Raises SkiptuneError for fewer than 2 images, different dimensions, non-finite or indefinite statistics.
    """
    a = a if isinstance(a, ReferenceStatistics) else ReferenceStatistics.from_statistics(a)
    b = b if isinstance(b, ReferenceStatistics) else ReferenceStatistics.from_statistics(b)
    if a.mean.shape != b.mean.shape:
        raise SkiptuneError(
            f"statistics have {len(a.mean)} and {len(b.mean)} features: use one extractor for both"
        )
    covariances = a.covariance.to(torch.float64), b.covariance.to(torch.float64)
    product = b.root @ covariances[0] @ b.root
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    distance = (
        (a.mean - b.mean).square().sum()
        + covariances[0].trace()
        + covariances[1].trace()
        - 2 * _root(eigenvalues).sum()
    )
    return max(float(distance), 0.0)  # equal statistics may give a tiny negative value


def _root(eigenvalues: Tensor) -> Tensor:
    if eigenvalues.min() < -TOLERANCE * eigenvalues.max().clamp(min=0):
        raise SkiptuneError("a covariance has negative eigenvalues: the statistics are damaged, redo them")
    return eigenvalues.clamp(min=0).sqrt()
