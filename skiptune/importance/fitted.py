"""Block weights that lower the error of the noise prediction, to first order, by least squares.

Eq. 4 of the Importance Probe leaves out how errors of blocks go together, and cannot ask for a weight above
1. This asks the network itself: ``eps_hat(w) = eps_hat(1) + sum_i (w_i - 1) d_i`` with its derivatives
``d_i``, so ``w - 1`` solves ``(d' d) (w - 1) = d' (eps - eps_hat(1))``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.importance.proposition import changed, predicted

DISTINCT = 1e-8  # smallest over largest eigenvalue of d' d that is told from the rounding of the network


def fitted_weights(
    denoiser: Denoiser, x0: Tensor, noise: Tensor, sigmas: Sequence[float], condition: Tensor | None = None
) -> Tensor:
    """``[S, m]`` float64, for ``S K (m + 1)`` network calls; arguments as of ``variance_terms``.

    They may be negative or far from 1, where the first order says little: check the error that they give.
    Directions that the data do not tell apart stay at 1.
    """
    return torch.stack([_at(denoiser, x0, noise, sigma, condition) for sigma in sigmas])


def _at(denoiser: Denoiser, x0: Tensor, noise: Tensor, sigma: float, condition: Tensor | None) -> Tensor:
    products: Tensor | float = 0.0
    right: Tensor | float = 0.0
    for one in noise:
        plain = predicted(denoiser, x0, one, sigma, condition)
        columns = changed(denoiser, x0, one, sigma, condition, plain)
        slopes = torch.stack([slope.flatten() for slope in columns], dim=1)
        missing = (one.to(plain) - plain).flatten()
        products, right = products + slopes.T @ slopes, right + slopes.T @ missing
    inverse = torch.linalg.pinv(torch.as_tensor(products), rtol=DISTINCT, hermitian=True)
    return (1 + inverse @ torch.as_tensor(right)).cpu()
