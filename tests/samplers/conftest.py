"""An exactly solvable model: Gaussian data, whose denoiser and probability-flow ODE have closed forms."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor


@dataclass
class Gaussian:
    """Data N(mean, std^2 I). Callable both as a denoiser and, without condition, as a `denoise` function."""

    mean: float = 0.3
    std: float = 0.5
    sigma_min: float = 0.0
    sigma_max: float = float("inf")
    calls: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        self.calls.append(float(sigma))
        shift = 0.0 if condition is None else condition.argmax(1).to(x).reshape(-1, 1, 1, 1)
        mean = self.mean + shift
        return mean + self.std**2 / (self.std**2 + sigma**2) * (x - mean)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        return sigma

    def flow(self, x: Tensor, sigma: float, to: float) -> Tensor:
        """Exact solution of the probability-flow ODE from level sigma to level `to`."""
        return self.mean + (x - self.mean) * ((self.std**2 + to**2) / (self.std**2 + sigma**2)) ** 0.5


@pytest.fixture
def gaussian() -> Gaussian:
    return Gaussian()


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
