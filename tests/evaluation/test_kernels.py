from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_arrays import activations
from sklearn.gaussian_process.kernels import RationalQuadratic as SklearnRationalQuadratic
from sklearn.metrics import pairwise

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import Pairs, mean
from skiptune.evaluation.kernels import (
    KERNELS,
    RBF,
    Energy,
    InverseMultiquadric,
    Kernel,
    Laplacian,
    Linear,
    MedianDistance,
    Polynomial,
    RationalQuadratic,
    make_kernel,
)

X, Y = activations(40, 12, 1), activations(50, 12, 2, 0.1)
DISTANCE = pairwise.euclidean_distances(X.numpy(), Y.numpy())


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (Linear(), pairwise.linear_kernel(X, Y)),
        (Polynomial(2), pairwise.polynomial_kernel(X, Y, degree=2)),
        (Polynomial(), pairwise.polynomial_kernel(X, Y)),
        (RBF(1.5), pairwise.rbf_kernel(X, Y, gamma=1 / (2 * 1.5**2))),
        (Laplacian(4.0), pairwise.laplacian_kernel(X, Y, gamma=1 / 4)),
        (RationalQuadratic(1.5, 0.7), SklearnRationalQuadratic(1.5, 0.7)(X.numpy(), Y.numpy())),
        (InverseMultiquadric(2.0), 1 / np.sqrt(1 + DISTANCE**2 / 4)),
        (Energy(), -DISTANCE),
    ],
    ids=lambda case: type(case).__name__ if not isinstance(case, np.ndarray) else "",
)
def test_parity_with_scikit_learn(kernel: Kernel, expected: np.ndarray) -> None:
    np.testing.assert_allclose(kernel(Pairs(X, Y, mean(X))).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("name", KERNELS)
def test_named_kernels_are_conditionally_positive(name: str) -> None:
    matrix = make_kernel(name, X)(Pairs(X, X, mean(X), same=True))
    centring = torch.eye(40, dtype=torch.float64) - 1 / 40
    assert torch.equal(matrix, matrix.T) or torch.allclose(matrix, matrix.T, rtol=1e-12)
    eigenvalues = torch.linalg.eigvalsh(centring @ matrix @ centring)
    assert eigenvalues.min() > -1e-10 * eigenvalues.max() and eigenvalues.max() > 0


def test_median_heuristic() -> None:
    medians = MedianDistance(X)
    assert medians.euclidean == pytest.approx(float(torch.pdist(X).median()))
    assert medians.manhattan == pytest.approx(float(torch.pdist(X, p=1).median()))
    assert make_kernel("rbf_double_median", X) == RBF(2 * medians.euclidean)
    some = MedianDistance(X, rows=20)
    assert some.euclidean == pytest.approx(float(torch.pdist(X[::2]).median()))


def test_what_cannot_be_a_kernel_is_refused() -> None:
    with pytest.raises(SkiptuneError, match="'gauss'.*rbf_median"):
        make_kernel("gauss", X)
    with pytest.raises(SkiptuneError, match="half of"):
        make_kernel("rbf_median", torch.ones(9, 3))
    with pytest.raises(SkiptuneError, match="at least 2 images"):
        make_kernel("rbf_median", X[:1])
