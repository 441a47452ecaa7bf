from __future__ import annotations

import numpy as np
import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.evaluation.fid_infinity import fid_infinity
from skiptune.evaluation.frechet import ReferenceStatistics, frechet_distance
from skiptune.evaluation.statistics import GaussianStatistics

D = 8
STANDARD = ReferenceStatistics(torch.zeros(D).double(), torch.eye(D).double())


def normal(n: int, seed: int, mean: float = 0.0) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


def test_removes_the_bias_of_few_images() -> None:
    """Known Gaussians: the distance is D * 0.3^2; FID of few images is above it, the extrapolation is not."""
    truth = D * 0.3**2
    plain, infinite = [], []
    for seed in range(40):
        sample = normal(600, seed, 0.3)
        plain.append(frechet_distance(GaussianStatistics.from_features(sample), STANDARD))
        infinite.append(fid_infinity(sample, STANDARD))
    error = np.std(infinite) / np.sqrt(40)
    assert np.mean(plain) - truth > 2 * np.std(plain) / np.sqrt(40)
    assert abs(np.mean(infinite) - truth) < 4 * error


def test_is_the_intercept_of_the_fitted_line_and_repeatable() -> None:
    sample = normal(400, 1)
    random = np.random.RandomState(5)
    sizes = np.linspace(40, 400, 4).astype(int)
    values = [
        frechet_distance(GaussianStatistics.from_features(sample[random.permutation(400)[:size]]), STANDARD)
        for size in sizes
    ]
    slope, intercept = np.polyfit(1 / sizes, values, 1)
    assert fid_infinity(sample, STANDARD, points=4, seed=5) == pytest.approx(intercept, abs=1e-10)
    assert slope > 0 and fid_infinity(sample, STANDARD, 4, seed=5) == fid_infinity(
        sample, STANDARD, 4, seed=5
    )


def test_too_few_images_or_points() -> None:
    with pytest.raises(SkiptuneError, match="at least 18 images"):
        fid_infinity(normal(17, 0), STANDARD)
    with pytest.raises(SkiptuneError, match="1 points"):
        fid_infinity(normal(100, 0), STANDARD, points=1)
    with pytest.raises(SkiptuneError, match="at least 120 images"):
        fid_infinity(normal(100, 0), STANDARD, least=60)
