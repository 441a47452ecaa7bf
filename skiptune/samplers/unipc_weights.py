"""Weights of the finite differences in a UniPC update (Zhao et al. 2023, Theorem 3.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

VARIANTS = ("bh1", "bh2", "vary_coeff")


def phi(k: int, h: float) -> float:
    """phi_k(h) = sum_j h^j / (j + k)!, the functions of exponential integrators: phi_1 = (e^h - 1) / h."""
    if abs(h) < 1:  # the recursion below cancels for small h
        return sum(h**j / math.factorial(j + k) for j in range(20))
    value = math.expm1(h) / h
    for i in range(1, k):
        value = (value - 1 / math.factorial(i)) / h
    return value


def difference_weights(ratios: Sequence[float], h: float, variant: str, corrector: bool) -> list[float]:
    """Weights of D_i / r_i, and of the newest difference in a corrector; the order is len(ratios) + 1.

    ratios: r_i = (lambda of the i-th earlier output - lambda) / step, all negative. h: the step in lambda,
    negated for data prediction. variant: "bh1" and "bh2" choose B(h) = h and e^h - 1, "vary_coeff" has no B.
    Raises SkiptuneError for another variant.
    """
    if variant not in VARIANTS:
        raise SkiptuneError(f"unknown variant {variant!r} of UniPC: choose {', '.join(VARIANTS)}")
    if variant == "vary_coeff":
        return _varying(ratios, h, corrector)
    b_of_h = h if variant == "bh1" else math.expm1(h)
    nodes = [*ratios, 1.0] if corrector else list(ratios)
    # A single node takes 1/2, which satisfies its condition up to O(h) (paper, section 3).
    if len(nodes) <= 1:
        return [0.5 * b_of_h] * len(nodes)
    powers = torch.tensor([[node**i for node in nodes] for i in range(len(nodes))], dtype=torch.float64)
    moments = [math.factorial(i) * h * phi(i + 1, h) for i in range(1, len(nodes) + 1)]
    return torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64)).tolist()


def _varying(ratios: Sequence[float], h: float, corrector: bool) -> list[float]:
    """The variant with coefficients that vary with the step (paper, UniPC_v)."""
    if not corrector:
        return (_inverse_vandermonde(ratios).T @ _moments(len(ratios), h)).tolist() if ratios else []
    order = len(ratios) + 1
    inverse, moments = _inverse_vandermonde([*ratios, 1.0]), _moments(order, h)
    weights = inverse[: order - 1, : order - 1].T @ moments[: order - 1]
    # As in the published solver, which pairs the newest difference with the row before last. From order 2 on
    # this makes the corrector first order; kept, because published numbers were made with it.
    return [*weights.tolist(), float(moments[-1] * inverse[max(order - 2, 0), -1])]


def _inverse_vandermonde(nodes: Sequence[float]) -> Tensor:
    rows = [[node**k / math.factorial(k + 1) for k in range(len(nodes))] for node in nodes]
    return torch.linalg.inv(torch.tensor(rows, dtype=torch.float64))


def _moments(count: int, h: float) -> Tensor:
    return torch.tensor([h * phi(k + 1, h) for k in range(1, count + 1)], dtype=torch.float64)
