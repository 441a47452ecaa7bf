"""The denoiser of images whose pixels are independent and normal, and what distillation should make of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skiptune.denoisers import Denoiser


class Gaussian(Denoiser):
    """``E[x0 | x] = v / (v + sigma^2) x`` for pixels ``N(0, v)``; v is its parameter."""

    def __init__(self, variance: float, trainable: bool = False):
        super().__init__((1, 4, 4))
        self.variance = nn.Parameter(torch.tensor(variance), requires_grad=trainable)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        return self.variance / (self.variance + sigma**2) * x


class GaussianConsistency(Gaussian):
    """Where the probability-flow ODE of ``Gaussian`` leads from ``sigma`` to ``sigma_low``."""

    def __init__(self, variance: float, sigma_low: float):
        super().__init__(variance, trainable=True)
        self.sigma_low = sigma_low

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        return ((self.variance + self.sigma_low**2) / (self.variance + sigma**2)).sqrt() * x
