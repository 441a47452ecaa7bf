"""FID without its bias: extrapolation to infinitely many images (Chong & Forsyth, arXiv 1911.07023)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import check_features
from skiptune.evaluation.frechet import Gaussian, ReferenceStatistics, frechet_distance
from skiptune.evaluation.statistics import GaussianStatistics

POINTS, SEED = 15, 2020


def fid_infinity(
    features: Tensor, reference: Gaussian, points: int = POINTS, least: int | None = None, seed: int = SEED
) -> float:
    """Intercept of the line fitted to FID_N against 1/N, at `points` sizes from `least` to all N images.

    Sizes at regular intervals; each a random subset of features [N, d] from NumPy's RandomState(seed).
    `least`: a tenth of the images (the authors' 5,000 of 50,000), but more than d, below which FID is not
    linear in 1/N. The reference's own bias stays. May be negative. Raises SkiptuneError for fewer than
    2 points or if `least` is more than half of the images.
    """
    check_features(features, least=2)
    n, d = features.shape
    smallest = max(n // 10, d + 1) if least is None else least
    if points < 2 or smallest < 2 or 2 * smallest > n:
        raise SkiptuneError(
            f"FID-infinity from {smallest} of {n} images at {points} points: use 2 points or more and "
            f"at least {2 * max(smallest, 2)} images"
        )
    if isinstance(reference, GaussianStatistics):
        reference = ReferenceStatistics.from_statistics(reference)
    random = np.random.RandomState(seed)
    sizes = np.linspace(smallest, n, points).astype(int)
    values = []
    for size in sizes:
        chosen = torch.from_numpy(random.permutation(n)[:size])
        values.append(frechet_distance(GaussianStatistics.from_features(features[chosen]), reference))
    return float(np.polynomial.polynomial.polyfit(1 / sizes, values, 1)[0])
