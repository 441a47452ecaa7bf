"""Inception score (Salimans et al., arXiv 1606.03498), as torch-fidelity 0.4 defines it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import check_features

SPLITS, SEED = 10, 2020


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation (divided by n) over the splits."""

    mean: float
    std: float


def inception_score(logits: Tensor, splits: int = SPLITS, seed: int | None = SEED) -> InceptionScore:
    """exp of the mean KL divergence of p(class | image) from the split's p(class), of logits [N, K].

    The images are shuffled by NumPy's RandomState(seed), not if None (ADM's evaluator: seed None and
    N / 5000 splits), and cut into `splits` consecutive parts. float64. Raises SkiptuneError for fewer images
    than splits or non-finite logits.
    """
    if splits < 1:
        raise SkiptuneError(f"the inception score of {splits} splits: use 1 or more")
    check_features(logits)
    n = len(logits)
    if n < splits:
        raise SkiptuneError(f"the inception score needs an image for each of its {splits} splits, got {n}")
    order = np.arange(n) if seed is None else np.random.RandomState(seed).permutation(n)
    scores = []
    for i in range(splits):
        rows = torch.from_numpy(order[i * n // splits : (i + 1) * n // splits])
        log_p = logits[rows].double().log_softmax(1)
        p = log_p.exp()
        divergence = (p * (log_p - p.mean(0).log())).nan_to_num(0.0).sum(1)  # 0 log 0 = 0
        scores.append(float(divergence.mean().exp()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))
