from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from skiptune.errors import SkiptuneError
from skiptune.evaluation.frechet import ReferenceStatistics, frechet_distance
from skiptune.evaluation.statistics import GaussianStatistics


def features(n: int, d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    return (torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing).relu() + 0.1 * seed


def statistics(n: int, d: int, seed: int) -> GaussianStatistics:
    return GaussianStatistics.from_features(features(n, d, seed))


@pytest.mark.parametrize(("n", "d"), [(300, 8), (1000, 64), (40, 64)])  # the last one is rank-deficient
def test_parity_with_torch_fidelity(n: int, d: int) -> None:
    a, b = features(n, d, 1), features(2 * n, d, 2)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
    ours = frechet_distance(GaussianStatistics.from_features(a), GaussianStatistics.from_features(b))
    # Rank-deficient products leave eigenvalues near 1e-17, whose roots (3e-9) differ between methods.
    assert ours == pytest.approx(theirs[KEY_METRIC_FID], rel=1e-9, abs=1e-6)


def test_parity_with_the_matrix_root_formula() -> None:
    a, b = features(500, 32, 1).numpy(), features(500, 32, 2).numpy()
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(ca @ cb).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * root)
    ours = frechet_distance(statistics(500, 32, 1), statistics(500, 32, 2))
    assert ours == pytest.approx(expected, rel=1e-9)


def test_closed_form_for_diagonal_covariances() -> None:
    a = ReferenceStatistics(torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 4.0, 0.0]).double()))
    b = ReferenceStatistics(torch.ones(3).double(), torch.diag(torch.tensor([9.0, 4.0, 1.0]).double()))
    assert frechet_distance(a, b) == pytest.approx(3 + (1 - 3) ** 2 + 0 + 1)


def test_is_a_distance() -> None:
    a, b = statistics(400, 16, 1), statistics(400, 16, 2)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-10)


def test_reference_root_is_computed_once_and_changes_nothing() -> None:
    a, b = statistics(400, 16, 1), statistics(400, 16, 2)
    reference = ReferenceStatistics.from_statistics(b)
    assert reference.root is reference.root
    torch.testing.assert_close(reference.root @ reference.root, b.covariance, rtol=1e-10, atol=1e-12)
    assert frechet_distance(a, reference) == frechet_distance(a, b)


def test_errors() -> None:
    a = statistics(50, 4, 1)
    with pytest.raises(SkiptuneError, match="4 and 5 features"):
        frechet_distance(a, statistics(50, 5, 1))
    with pytest.raises(SkiptuneError, match="at least 2 images"):
        frechet_distance(statistics(1, 4, 1), a)
    with pytest.raises(SkiptuneError, match="NaN"):
        ReferenceStatistics(torch.zeros(2).double(), torch.full((2, 2), float("nan")).double())
    with pytest.raises(SkiptuneError, match="belong together"):
        ReferenceStatistics(torch.zeros(2).double(), torch.eye(3).double())
    with pytest.raises(SkiptuneError, match="negative eigenvalues"):
        frechet_distance(a, ReferenceStatistics(torch.zeros(4).double(), -torch.eye(4).double()))
