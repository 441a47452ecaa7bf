"""The trace of (C_a C_b)^1/2 of badly scaled or singular covariances, where eigenvalues are too coarse.

An eigenvalue is wrong by about eps times the largest, which is nothing for itself, but not for its root where
it is small: a zero may come out as 1e-8 of the largest root. The roots are the singular values of F_a^T F_b,
which are wrong by eps times the largest *root*; these take several times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = torch.finfo(torch.float64).eps


def rounding(roots: Tensor) -> Tensor:
    """By how much the rounding of eigenvalues may move the sum of their roots [n], ascending, float64."""
    error = EPS * roots[-1:].square()
    return torch.minimum(error.sqrt(), error / (2 * roots).clamp(min=torch.finfo(roots.dtype).tiny)).sum()


def graded_factor(covariance: Tensor) -> Tensor:
    """F [d, r] of rank r with C = F F^T, small features as exact as large ones: from the correlations."""
    scale = covariance.diagonal().clamp(min=0).sqrt()
    scale = torch.where(scale > 0, scale, 1)
    values, vectors = torch.linalg.eigh(covariance / scale / scale[:, None])
    kept = values > len(values) * EPS * values[-1]
    return scale[:, None] * vectors[:, kept] * values[kept].sqrt()


def fidelity(factor_a: Tensor, factor_b: Tensor) -> Tensor:
    """tr (C_a C_b)^1/2 of the factors [d, r] and [d, s] of two covariances."""
    return torch.linalg.svdvals(factor_a.T @ factor_b).sum()
