"""Frechet distance between Gaussians (Dowson & Landau 1982), the FID of Heusel et al. (arXiv 1706.08500).

|m_a - m_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^1/2, in float64. With a factor C_b = F F^T the last trace is
that of (F^T C_a F)^1/2, a symmetric matrix: real eigenvalues, whatever the rank. Where one of the two has
fewer images than features, its centred rows are the factor and the matrix is as small as their number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import scipy.linalg
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import blocks, is_finite
from skiptune.evaluation.graded import fidelity, graded_factor, rounding
from skiptune.evaluation.statistics import GaussianStatistics, LowRankGaussian
from skiptune.runtime.files import write_atomic

# An eigenvalue below -TOLERANCE * (largest) is no rounding error: float32 statistics stay within 1e-6.
TOLERANCE = 1e-6

# The distance is wrong by at most this share of it, or of FLOOR times the traces if it is smaller than that.
PRECISION, FLOOR = 1e-8, 1e-6

# Up to here the factor is the symmetric root, which takes no time; beyond, the cheaper Cholesky factor.
SYMMETRIC_ROOT = 512


@dataclass(frozen=True)
class ReferenceStatistics:
    """Mean [d] and covariance [d, d], float64, of the real images; the covariance is factored once.

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
        if not (is_finite(self.mean) and is_finite(self.covariance)):
            raise SkiptuneError("statistics contain NaN or infinity: recompute them")

    @classmethod
    def from_statistics(cls, statistics: GaussianStatistics) -> ReferenceStatistics:
        """Mean and covariance of at least 2 images (SkiptuneError otherwise)."""
        return cls(statistics.mean, statistics.covariance)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of mean and covariance as float64, 64 hex digits."""
        hashed = hashlib.sha256()
        for part in (self.mean, self.covariance):
            hashed.update(part.double().contiguous().numpy().data)
        return hashed.hexdigest()

    @cached_property
    def root(self) -> Tensor:
        """Symmetric square root [d, d] of the covariance."""
        values, vectors = torch.linalg.eigh(self.covariance.to(torch.float64))
        return (vectors * _root(values)) @ vectors.T

    @cached_property
    def factor(self) -> Tensor:
        """F [d, r] of rank r with covariance F F^T: symmetric root, Cholesky factor or scaled eigenvectors.

        Raises SkiptuneError if the covariance has negative eigenvalues.
        """
        if len(self.mean) <= SYMMETRIC_ROOT:
            return self.root
        covariance = self.covariance.to(torch.float64)
        triangle, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            return triangle
        values, vectors = torch.linalg.eigh(covariance)  # a singular covariance, from few images
        kept = values > len(values) * torch.finfo(torch.float64).eps * values[-1]
        return vectors[:, kept] * _root(values)[kept]

    def keep_factor(self, folder: Path) -> None:
        """Take the factor from `<folder>/<digest>.safetensors`; compute and write it if that is not there."""
        path = folder / f"{self.digest}.safetensors"
        try:
            self.__dict__["factor"] = load_file(path)["factor"]  # where the cached property looks
        except (OSError, SafetensorError, KeyError):
            write_atomic(path, save({"factor": self.factor.contiguous()}))

    def congruent(self, covariance: Tensor) -> Tensor:
        """F^T C F [r, r], whose eigenvalues are those of C times this covariance, of C [d, d]."""
        if len(self.mean) <= SYMMETRIC_ROOT:  # F^T would be F in other bits than published records have
            return self.root @ covariance @ self.root
        return self.factor.T @ covariance @ self.factor


Moments = ReferenceStatistics | LowRankGaussian
Gaussian = GaussianStatistics | Moments


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Frechet distance; pass the reference as `b`, as `ReferenceStatistics`, to factor it once for many `a`.

    Raises SkiptuneError for fewer than 2 images, different dimensions, non-finite or indefinite statistics.
    """
    a, b = (
        ReferenceStatistics.from_statistics(g) if isinstance(g, GaussianStatistics) else g for g in (a, b)
    )
    if a.mean.shape != b.mean.shape:
        raise SkiptuneError(
            f"statistics have {len(a.mean)} and {len(b.mean)} features: use one extractor for both"
        )
    apart = (a.mean - b.mean).square().sum() + _trace(a) + _trace(b)
    roots = _root(_eigenvalues(a, b))
    distance = apart - 2 * roots.sum()
    if 2 * rounding(roots) > PRECISION * torch.maximum(distance, FLOOR * apart):
        distance = apart - 2 * fidelity(_graded(a), _graded(b))
    return max(float(distance), 0.0)  # equal statistics may give a tiny negative value


def _trace(gaussian: Moments) -> Tensor:
    if isinstance(gaussian, LowRankGaussian):
        return gaussian.rows.square().sum()
    return gaussian.covariance.to(torch.float64).trace()


def _eigenvalues(a: Moments, b: Moments) -> Tensor:
    """Those of C_a C_b that may differ from zero, ascending: of the smallest symmetric matrix with them."""
    if isinstance(a, LowRankGaussian):
        if isinstance(b, LowRankGaussian):
            product = a.rows @ b.rows.T
            gram = product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product
            gram = (gram + gram.T) / 2
        else:  # R C_b R^T needs no factor of C_b
            gram = _congruent(a.rows, b.covariance.to(torch.float64))
        return _spectrum(gram)[1:]  # centring took one direction from the rows
    if isinstance(b, LowRankGaussian):
        return _eigenvalues(b, a)
    product = b.congruent(a.covariance.to(torch.float64))
    return _spectrum((product + product.T) / 2)


def _spectrum(matrix: Tensor) -> Tensor:
    """Eigenvalues of a symmetric matrix, ascending. SciPy's LAPACK takes two thirds of torch's time."""
    values = scipy.linalg.eigvalsh(matrix.numpy(), driver="evd", overwrite_a=True, check_finite=False)
    return torch.from_numpy(values)


def _graded(gaussian: Moments) -> Tensor:
    if isinstance(gaussian, LowRankGaussian):
        return gaussian.rows.T
    return graded_factor(gaussian.covariance.to(torch.float64))


def _congruent(rows: Tensor, covariance: Tensor) -> Tensor:
    """R C R^T [n, n] of rows R [n, d] as H + H^T with H = R U R^T, U the lower half of C: fewer products.

    U is taken in eight strips, whose last block is divided by 2: the diagonal belongs to both halves.
    """
    columns, half = rows.T, rows.new_empty(rows.shape[1], len(rows))
    for strip in blocks(len(covariance), -(-len(covariance) // 8)):
        lower = covariance[strip, : strip.stop].clone()
        lower[:, strip] *= 0.5
        torch.mm(lower, columns[: strip.stop], out=half[strip])
    product = rows @ half
    return product + product.T


def _root(eigenvalues: Tensor) -> Tensor:
    if len(eigenvalues) and eigenvalues.min() < -TOLERANCE * eigenvalues.max().clamp(min=0):
        raise SkiptuneError("a covariance has negative eigenvalues: the statistics are damaged, redo them")
    return eigenvalues.clamp(min=0).sqrt()
