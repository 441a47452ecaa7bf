"""Kernel inception distance (Binkowski et al., arXiv 1801.01401), as torch-fidelity 0.4 defines it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import blocks, check_features, upper_pairs

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020
_BLOCK = 256


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
        within = (_within(x) + _within(y)) / (subset_size * (subset_size - 1))
        values.append(within - 2 * float(_kernel(x, y).mean()))
    return KID(float(np.mean(values)), float(np.std(values)))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    products = (x @ y.T).div_(x.shape[1]).add_(1)
    return products * products * products


def _within(x: Tensor) -> float:
    """Sum of the kernel over all pairs of different rows, from the upper blocks of the symmetric matrix."""
    total = 0.0
    for a, b in upper_pairs(blocks(len(x), _BLOCK)):
        values = _kernel(x[a], x[b])
        total += float(values.sum() - values.trace()) if a is b else 2 * float(values.sum())
    return total
