from __future__ import annotations

import numpy as np
import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.evaluation.statistics import GaussianStatistics
from skiptune.runtime.workers import one_thread


def features(n: int, d: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) @ torch.randn(d, d, generator=generator) + 3


def test_moments_are_numpys() -> None:
    f = features(500, 12)
    statistics = GaussianStatistics.from_features(f)
    np.testing.assert_allclose(statistics.mean, f.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(f.double().numpy(), rowvar=False), atol=1e-11)


def test_chunks_add_up_to_the_whole() -> None:
    f = features(400, 16)
    whole = GaussianStatistics.from_features(f)
    merged = GaussianStatistics.merge([GaussianStatistics.from_features(part) for part in f.split(90)])
    assert merged.count == whole.count == 400
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-13, atol=0)
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-11, atol=1e-11)


def test_merge_gives_the_same_bits_whatever_computed_the_chunks() -> None:
    parts = [GaussianStatistics.from_features(features(50, 8, seed)) for seed in range(5)]
    by_two_workers = {i: parts[i] for rank in (1, 0) for i in range(rank, 5, 2)}
    a, b = GaussianStatistics.merge(parts), GaussianStatistics.merge([by_two_workers[i] for i in range(5)])
    assert torch.equal(a.outer, b.outer) and torch.equal(a.total, b.total)


@pytest.mark.parametrize("offset", [1e2, 1e3, 1e6])
def test_large_mean_costs_little_accuracy(offset: float) -> None:
    f = features(300, 4).double()
    shifted = GaussianStatistics.from_features(f + offset)
    expected = torch.cov(f.T)
    torch.testing.assert_close(shifted.covariance, expected, rtol=1e-9, atol=1e-9)
    parts = [f[:100] + offset, f[100:] + 1e4]  # of other shifts
    merged = GaussianStatistics.merge([GaussianStatistics.from_features(part) for part in parts])
    torch.testing.assert_close(merged.covariance, torch.cov(torch.cat(parts).T), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(merged.mean, torch.cat(parts).mean(0), rtol=1e-12, atol=0)


def test_unusable_features_are_refused() -> None:
    with pytest.raises(SkiptuneError, match="NaN"):
        GaussianStatistics.from_features(torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(SkiptuneError, match="shape"):
        GaussianStatistics.from_features(torch.zeros(3))
    with pytest.raises(SkiptuneError, match="at least 2 images"):
        _ = GaussianStatistics.from_features(torch.zeros(1, 4)).covariance
    three, four = (GaussianStatistics.from_features(torch.zeros(2, d)) for d in (3, 4))
    with pytest.raises(SkiptuneError, match="3 and 4 features"):
        _ = three + four
    with pytest.raises(SkiptuneError, match="at least one chunk"):
        GaussianStatistics.merge([])


def test_one_thread_makes_the_bits_of_a_large_sum_repeatable() -> None:
    features = torch.randn(10_000, 64, generator=torch.Generator().manual_seed(0))
    before, outers = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with one_thread():
            outers.append(GaussianStatistics.from_features(features).outer)
    torch.set_num_threads(before)
    assert torch.equal(*outers)
