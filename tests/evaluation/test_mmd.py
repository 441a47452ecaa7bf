from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from feature_arrays import activations
from sklearn.metrics import pairwise

from skiptune.errors import SkiptuneError
from skiptune.evaluation.kernels import KERNELS, RBF, Energy, Linear, Polynomial, make_kernel
from skiptune.evaluation.mmd import CMMD_KERNEL, cmmd, mmd, within

X, Y = activations(30, 8, 1), activations(25, 8, 2, 0.1)


def test_parity_with_a_double_loop() -> None:
    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(-sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)) / (2 * 1.3**2))

    n, m = len(X), len(Y)
    xx = [[k(a, b) for b in X] for a in X]
    yy = [[k(a, b) for b in Y] for a in Y]
    xy = sum(k(a, b) for a in X for b in Y) / (n * m)
    biased = sum(map(sum, xx)) / n**2 + sum(map(sum, yy)) / m**2 - 2 * xy
    off_x = sum(xx[i][j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    off_y = sum(yy[i][j] for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    (value,) = mmd(X, Y, [RBF(1.3)], block=7)
    assert value.biased == pytest.approx(biased, rel=1e-10)
    assert value.unbiased == pytest.approx(off_x + off_y - 2 * xy, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_parity_with_scikit_learn_kernels(dtype: torch.dtype) -> None:
    x, y = activations(500, 64, 1).to(dtype), activations(400, 64, 2, 0.02).to(dtype)
    a, b = x.double().numpy(), y.double().numpy()
    kernels = {
        Polynomial(3): lambda p, q: pairwise.polynomial_kernel(p, q, degree=3),
        RBF(4.0): lambda p, q: pairwise.rbf_kernel(p, q, gamma=1 / 32),
    }
    for value, kernel in zip(mmd(x, y, list(kernels), block=128), kernels.values(), strict=True):
        xx, yy, xy = kernel(a, a), kernel(b, b), kernel(a, b)
        unbiased = (xx.sum() - np.trace(xx)) / (500 * 499) + (yy.sum() - np.trace(yy)) / (400 * 399)
        assert value.unbiased == pytest.approx(unbiased - 2 * xy.mean(), rel=1e-8)
        assert value.biased == pytest.approx(xx.mean() + yy.mean() - 2 * xy.mean(), rel=1e-8)


def test_blocks_kernels_together_and_kept_sums_change_nothing() -> None:
    kernels = [make_kernel(name, Y) for name in KERNELS]
    values = mmd(X, Y, kernels, block=1000)
    for block in (1, 7, 25):
        for a, b in zip(values, mmd(X, Y, kernels, block), strict=True):
            assert (a.unbiased, a.biased) == pytest.approx((b.unbiased, b.biased), rel=1e-9, abs=1e-12)
    assert mmd(X, Y, kernels, y_sums=within(Y, kernels)) == mmd(X, Y, kernels)
    assert mmd(X, Y, kernels[3:4]) == values[3:4]


def test_properties() -> None:
    kernels = [make_kernel(name, Y) for name in KERNELS]
    for value, swapped, same in zip(
        mmd(X, Y, kernels), mmd(Y, X, kernels), mmd(X, X.flip(0), kernels), strict=True
    ):
        assert value.biased > 0 and value.biased == pytest.approx(swapped.biased, rel=1e-9)
        assert same.biased == pytest.approx(0, abs=1e-7) and same.unbiased < 0
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double())[0]
    invariant = [RBF(1.0), Energy(), Polynomial(2), Linear()]
    for a, b in zip(mmd(X, Y, invariant), mmd(X @ rotation, Y @ rotation, invariant), strict=True):
        assert a.unbiased == pytest.approx(b.unbiased, rel=1e-9)


def test_linear_kernel_is_the_distance_of_the_means_and_energy_its_definition() -> None:
    linear, energy = mmd(X, Y, [Linear(), Energy()])
    assert linear.biased == pytest.approx(float((X.mean(0) - Y.mean(0)).square().sum()), rel=1e-9)
    expected = 2 * torch.cdist(X, Y).mean() - torch.cdist(X, X).mean() - torch.cdist(Y, Y).mean()
    assert energy.biased == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_unbiased_over_resampling(shift: float) -> None:
    """The mean over many small samples is the value of the populations, that of `biased` is above it."""
    x, y = activations(400, 4, 1), activations(400, 4, 1) + shift
    population = mmd(x, y, [RBF(1.0)])[0].biased  # the samples are drawn with replacement from these
    random = np.random.default_rng(0)
    draws = [
        mmd(x[random.integers(400, size=20)], y[random.integers(400, size=20)], [RBF(1.0)])[0]
        for _ in range(400)
    ]
    unbiased = np.array([draw.unbiased for draw in draws])
    error = 4 * unbiased.std() / 20
    assert abs(unbiased.mean() - population) < error
    assert np.mean([draw.biased for draw in draws]) - population > 3 * error


def test_cmmd_is_the_definition_of_its_paper() -> None:
    x, y = (torch.nn.functional.normalize(z, dim=1) for z in (X, Y))
    gamma = 1 / (2 * 10**2)
    xx, yy, xy = (pairwise.rbf_kernel(a, b, gamma=gamma).mean() for a, b in ((x, x), (y, y), (x, y)))
    assert cmmd(x, y, block=9) == pytest.approx(1000 * (xx + yy - 2 * xy), rel=1e-8)
    assert RBF(10.0) == CMMD_KERNEL


def test_bad_input() -> None:
    with pytest.raises(SkiptuneError, match="at least 2 images"):
        mmd(X[:1], Y, [Linear()])
    with pytest.raises(SkiptuneError, match="8 and 7 features"):
        mmd(X, Y[:, :7], [Linear()])
