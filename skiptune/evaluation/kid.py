"""Kernel inception distance (Binkowski et al., arXiv 1801.01401), as torch-fidelity 0.4 defines it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import check_features

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020


@dataclass(frozen=True)
class KID:
    """Mean and standard deviation (divided by n) of the unbiased MMD^2 over the subsets."""

    mean: float
    std: float


def kid(
    generated: Tensor,
    real: Tensor,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = SEED,
) -> KID:
    """MMD^2 with the kernel (x y / d + 1)^3, over random subsets of features [N, d] and [M, d].

    Each subset is drawn without replacement, of the generated images first, by NumPy's RandomState(seed).
    float64 throughout: on float32 features torch-fidelity rounds the value by about 2e-6.
    Raises SkiptuneError if a subset has more images than there are, or for features that are no finite
    matrices of one dimension.
    """
    if subsets < 1 or subset_size < 2:
        raise SkiptuneError(f"KID of {subsets} subsets of {subset_size} images: use 1 of 2 images or more")
    check_features(generated, real)
    if min(len(generated), len(real)) < subset_size:
        raise SkiptuneError(
            f"KID subsets of {subset_size} images need as many generated and real ones, got "
            f"{len(generated)} and {len(real)}: lower subset_size"
        )
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        x, y = (
            features[torch.from_numpy(random.choice(len(features), subset_size, replace=False))].double()
            for features in (generated, real)
        )
        values.append(_unbiased(_kernel(x, x), _kernel(x, y), _kernel(y, y)))
    return KID(float(np.mean(values)), float(np.std(values)))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _unbiased(xx: Tensor, xy: Tensor, yy: Tensor) -> float:
    n = len(xx)
    within = xx.sum() - xx.trace() + yy.sum() - yy.trace()
    return float(within / (n * (n - 1)) - 2 * xy.mean())
