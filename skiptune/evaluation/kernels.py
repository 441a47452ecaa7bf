"""Kernels k(x, y) by name, and the median heuristic for their length.

Smooth kernels of a distance take their length from the *reference* images, so that all rows of a table are
measured with one and the same kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import Pairs, check_features, mean


class Kernel(Protocol):
    """Values [n, m], float64, of a symmetric kernel on pairs of images."""

    def __call__(self, pairs: Pairs) -> Tensor: ...


@dataclass(frozen=True)
class Linear:
    """x y: compares nothing but the means."""

    def __call__(self, pairs: Pairs) -> Tensor:
        return pairs.products


@dataclass(frozen=True)
class Polynomial:
    """(x y / d + coef0)^degree; degree 3 is the kernel of KID (Binkowski et al., arXiv 1801.01401)."""

    degree: int = 3
    coef0: float = 1.0

    def __call__(self, pairs: Pairs) -> Tensor:
        return (pairs.products / pairs.dimension + self.coef0) ** self.degree


@dataclass(frozen=True)
class RBF:
    """Gaussian exp(-r^2 / (2 sigma^2)), r the Euclidean distance."""

    sigma: float

    def __call__(self, pairs: Pairs) -> Tensor:
        return torch.exp(pairs.squared / (-2 * self.sigma**2))


@dataclass(frozen=True)
class Laplacian:
    """exp(-s / length), s the sum of absolute differences (scikit-learn's, gamma = 1 / length)."""

    length: float

    def __call__(self, pairs: Pairs) -> Tensor:
        return torch.exp(pairs.manhattan / -self.length)


@dataclass(frozen=True)
class RationalQuadratic:
    """(1 + r^2 / (2 alpha length^2))^-alpha, a scale mixture of Gaussians (scikit-learn's)."""

    length: float
    alpha: float = 1.0

    def __call__(self, pairs: Pairs) -> Tensor:
        return (1 + pairs.squared / (2 * self.alpha * self.length**2)) ** -self.alpha


@dataclass(frozen=True)
class InverseMultiquadric:
    """(1 + r^2 / length^2)^(-1/2)."""

    length: float

    def __call__(self, pairs: Pairs) -> Tensor:
        return torch.rsqrt(1 + pairs.squared / self.length**2)


@dataclass(frozen=True)
class Energy:
    """-r: MMD^2 is then the energy distance 2 E|x - y| - E|x - x'| - E|y - y'| (Szekely & Rizzo 2004)."""

    def __call__(self, pairs: Pairs) -> Tensor:
        return -pairs.squared.sqrt()


@dataclass(frozen=True, eq=False)
class MedianDistance:
    """Lower medians of the pairwise distances of at most `rows` images, evenly taken from features [N, d].

    Raises SkiptuneError for features that are no finite matrix of 2 or more images, and for a median of 0.
    """

    features: Tensor
    rows: int = 2048

    def _median(self, distances: Tensor) -> float:
        n = len(distances)
        above = torch.ones(n, n, dtype=torch.bool, device=distances.device).triu(1)
        median = float(distances[above].median())
        if median <= 0:
            raise SkiptuneError("half of the reference images are equal: use a fixed kernel, such as rbf_10")
        return median

    @cached_property
    def _pairs(self) -> Pairs:
        check_features(self.features, least=2)
        step = max(1, -(-len(self.features) // self.rows))
        chosen = self.features[::step]
        return Pairs(chosen, chosen, mean(chosen), same=True)

    @cached_property
    def euclidean(self) -> float:
        return self._median(self._pairs.squared.sqrt())

    @cached_property
    def manhattan(self) -> float:
        return self._median(self._pairs.manhattan)


KERNELS: dict[str, Callable[[MedianDistance], Kernel]] = {
    "linear": lambda median: Linear(),
    "polynomial_2": lambda median: Polynomial(2),
    "polynomial_3": lambda median: Polynomial(3),
    "rbf_half_median": lambda median: RBF(median.euclidean / 2),
    "rbf_median": lambda median: RBF(median.euclidean),
    "rbf_double_median": lambda median: RBF(2 * median.euclidean),
    "rbf_10": lambda median: RBF(10.0),
    "laplacian": lambda median: Laplacian(median.manhattan),
    "rational_quadratic": lambda median: RationalQuadratic(median.euclidean),
    "inverse_multiquadric": lambda median: InverseMultiquadric(median.euclidean),
    "energy": lambda median: Energy(),
}


def make_kernel(name: str, reference: MedianDistance | Tensor) -> Kernel:
    """The kernel of that name, its length from the reference features [N, d].

    Raises SkiptuneError, listing the known ones, for an unknown name.
    """
    if name not in KERNELS:
        raise SkiptuneError(f"unknown kernel '{name}': choose one of {', '.join(KERNELS)}")
    return KERNELS[name](reference if isinstance(reference, MedianDistance) else MedianDistance(reference))
