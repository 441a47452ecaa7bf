"""An exactly solvable model: Gaussian data, whose denoiser and probability-flow ODE have closed forms."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from skiptune.denoisers.discrete import DiscreteDenoiser


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


class GaussianNetwork(nn.Module):
    """Exact noise or velocity for data N(0.3, 0.5^2 I) in discrete time; keeps the times that it is told."""

    def __init__(self, alphas_cumprod: Tensor, prediction: str):
        super().__init__()
        self.logs = 0.5 * (1 / alphas_cumprod.double() - 1).log()
        self.prediction = prediction
        self.times: list[float] = []

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        self.times.append(float(t[0]))
        left = t.floor().long().clamp(0, len(self.logs) - 2)
        log = self.logs[left] + (t - left) * (self.logs[left + 1] - self.logs[left])
        abar = (1 / (1 + (2 * log).exp())).reshape(-1, 1, 1, 1)
        x0 = 0.3 + 0.25 * abar.sqrt() / (abar * 0.25 + 1 - abar) * (x - abar.sqrt() * 0.3)
        eps = (x - abar.sqrt() * x0) / (1 - abar).sqrt()
        return eps if self.prediction == "epsilon" else abar.sqrt() * eps - (1 - abar).sqrt() * x0


@pytest.fixture
def discrete_gaussian():
    """alphas_cumprod, prediction -> the Gaussian model as a DiscreteDenoiser."""

    def make(alphas_cumprod: Tensor, prediction: str = "epsilon") -> DiscreteDenoiser:
        network = GaussianNetwork(alphas_cumprod, prediction)
        return DiscreteDenoiser(network, (1, 4, 4), alphas_cumprod, prediction=prediction)

    return make


@pytest.fixture
def log_linear():
    """count -> alphas_cumprod [count] with log sigma rising evenly from log 0.1 to log 10."""

    def make(count: int) -> Tensor:
        sigma = torch.logspace(-1, 1, count, dtype=torch.float64)
        return 1 / (1 + sigma**2)

    return make
