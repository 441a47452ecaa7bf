from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from cleanfid.fid import frechet_distance as cleanfid_distance
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from skiptune.errors import SkiptuneError
from skiptune.evaluation.frechet import PRECISION, ReferenceStatistics, frechet_distance
from skiptune.evaluation.statistics import GaussianStatistics, LowRankGaussian, fit_gaussian


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


@pytest.mark.parametrize(("n", "d"), [(300, 8), (700, 600)])  # symmetric root, Cholesky factor
def test_parity_with_clean_fid(n: int, d: int) -> None:
    a, b = features(n, d, 1).numpy(), features(2 * n, d, 2).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its call of sqrtm(disp=...)
        theirs = cleanfid_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert frechet_distance(statistics(n, d, 1), statistics(2 * n, d, 2)) == pytest.approx(theirs, rel=1e-8)


def exact(a: torch.Tensor, b: torch.Tensor) -> float:
    """With the trace of the root as the sum of singular values of the product of the centred rows."""
    x, y = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (a, b))
    norms = x.square().sum() + y.square().sum() - 2 * torch.linalg.svdvals(x @ y.T).sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + norms)


@pytest.mark.parametrize(
    ("n", "m", "d"), [(40, 300, 64), (300, 40, 64), (40, 50, 64), (64, 64, 64), (2, 9, 5)]
)
def test_fewer_images_than_features(n: int, m: int, d: int) -> None:
    a, b = features(n, d, 1), features(m, d, 2)
    low, other = fit_gaussian(a), fit_gaussian(b)
    assert isinstance(low, LowRankGaussian) == (n <= d) and isinstance(other, LowRankGaussian) == (m <= d)
    assert frechet_distance(low, other) == pytest.approx(exact(a, b), rel=1e-9)
    # The roots of eigenvalues that should be zero make the form with covariances less exact.
    assert frechet_distance(statistics(n, d, 1), statistics(m, d, 2)) == pytest.approx(exact(a, b), rel=1e-5)
    assert frechet_distance(low, low) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("scales", "offset"),
    [((-3, 3), 0.0), ((-6, 6), 0.0), ((0, 0), 1e4), ((-1, 1), 1e6)],
    ids=["scaled", "more scaled", "offset", "both"],
)
def test_badly_scaled_and_far_features_keep_their_digits(scales: tuple[int, int], offset: float) -> None:
    scale = torch.logspace(*scales, 24, dtype=torch.float64)
    a, b = (features(n, 24, seed) * scale + offset for n, seed in ((600, 1), (500, 2)))
    for x, y in ((a, b), (b, a), (a[:20], b), (a[:20], b[:15])):
        expected = exact(x, y)
        assert frechet_distance(fit_gaussian(x), fit_gaussian(y)) == pytest.approx(expected, rel=PRECISION)


def test_features_without_variance_or_twice_keep_the_digits_of_the_others() -> None:
    a, b = features(400, 24, 1), features(300, 24, 2)
    for x in (a, b):
        x[:, 5], x[:, 6], x[:, 7] = x[:, 8], 0.0, 3.0
    ours = frechet_distance(fit_gaussian(a), fit_gaussian(b))
    assert ours == pytest.approx(exact(a, b), rel=PRECISION)
    constant = torch.full((50, 24), 2.0).double()
    expected = float((constant[0] - b.mean(0)).square().sum() + torch.cov(b.T).trace())
    assert frechet_distance(fit_gaussian(constant), fit_gaussian(b)) == pytest.approx(expected, rel=PRECISION)


def test_large_singular_reference_is_factored_by_its_rank() -> None:
    a, b = features(700, 600, 1), features(100, 600, 2)
    reference = ReferenceStatistics.from_statistics(GaussianStatistics.from_features(b))
    assert reference.factor.shape == (600, 99)
    assert frechet_distance(fit_gaussian(a), reference) == pytest.approx(exact(a, b), rel=1e-9)
    few = features(50, 600, 3)
    assert frechet_distance(fit_gaussian(few), reference) == pytest.approx(exact(few, b), rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(200, 16), (800, 600), (30, 48)])
def test_invariances(n: int, d: int) -> None:
    a, b = features(n, d, 1), features(n, d, 2)
    distance = frechet_distance(fit_gaussian(a), fit_gaussian(b))
    rotation = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0)).double())[0]
    for x, y in ((a.flip(0), b), (a @ rotation, b @ rotation), (a + 7, b + 7), (b, a)):
        assert frechet_distance(fit_gaussian(x), fit_gaussian(y)) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(fit_gaussian(a), fit_gaussian(a)) < 1e-9 * distance
    assert frechet_distance(fit_gaussian(3 * a), fit_gaussian(3 * b)) == pytest.approx(9 * distance, rel=1e-9)


def test_factor_is_kept_by_digest(tmp_path: Path) -> None:
    first = ReferenceStatistics.from_statistics(statistics(700, 600, 1))
    again = ReferenceStatistics.from_statistics(statistics(700, 600, 1))
    other = ReferenceStatistics.from_statistics(statistics(700, 600, 2))
    assert first.digest == again.digest != other.digest
    first.keep_factor(tmp_path)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    again.keep_factor(tmp_path)
    assert path.stat().st_mtime_ns == written and torch.equal(again.factor, first.factor)
    a = statistics(700, 600, 3)
    assert frechet_distance(a, again) == frechet_distance(a, first)
    path.write_bytes(b"damaged")
    damaged = ReferenceStatistics.from_statistics(statistics(700, 600, 1))
    damaged.keep_factor(tmp_path)
    assert torch.equal(damaged.factor, first.factor) and path.stat().st_size > 600 * 600 * 8


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
    with pytest.raises(SkiptuneError, match="4 and 5 features"):
        frechet_distance(fit_gaussian(features(3, 4, 1)), fit_gaussian(features(3, 5, 1)))
    with pytest.raises(SkiptuneError, match="at least 2 images"):
        LowRankGaussian.from_features(features(1, 4, 1))
    with pytest.raises(SkiptuneError, match="NaN"):
        fit_gaussian(torch.full((2, 4), float("nan")))
    with pytest.raises(SkiptuneError, match="negative eigenvalues"):
        frechet_distance(a, ReferenceStatistics(torch.zeros(4).double(), -torch.eye(4).double()))
