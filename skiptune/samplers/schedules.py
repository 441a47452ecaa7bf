"""Noise schedules sigma(t) and scalings s(t): a state at time t is s(t) (x0 + sigma(t) n) (EDM, Table 1)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class NoiseSchedule(ABC):
    """sigma(t) with derivative and inverse; elementwise on float64 tensors.

    variance_preserving: s = 1 / sqrt(1 + sigma^2), otherwise s = 1.
    """

    variance_preserving: bool = False

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def sigma_derivative(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        """The inverse of sigma(t)."""

    def scale(self, t: Tensor) -> Tensor:
        """s(t)."""
        return (1 + self.sigma(t) ** 2) ** -0.5 if self.variance_preserving else torch.ones_like(t)

    def scale_derivative(self, t: Tensor) -> Tensor:
        """ds/dt."""
        if not self.variance_preserving:
            return torch.zeros_like(t)
        return -self.sigma(t) * self.sigma_derivative(t) * self.scale(t) ** 3


@dataclass(frozen=True)
class Linear(NoiseSchedule):
    """sigma(t) = t (EDM's own choice)."""

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def sigma_derivative(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time(self, sigma: Tensor) -> Tensor:
        return sigma


@dataclass(frozen=True)
class VE(NoiseSchedule):
    """sigma(t) = sqrt(t)."""

    def sigma(self, t: Tensor) -> Tensor:
        return t.sqrt()

    def sigma_derivative(self, t: Tensor) -> Tensor:
        return 0.5 / t.sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        return sigma**2


@dataclass(frozen=True)
class VP(NoiseSchedule):
    """sigma(t)^2 = exp(beta_d t^2 / 2 + beta_min t) - 1: beta rises linearly, from beta_min by beta_d."""

    variance_preserving: bool = True
    beta_d: float = 19.9
    beta_min: float = 0.1

    @classmethod
    def through(cls, sigma_min: float, sigma_max: float, epsilon: float = 1e-3, scaled: bool = True) -> VP:
        """The schedule with sigma(epsilon) = sigma_min and sigma(1) = sigma_max; s = 1 unless `scaled`."""
        low, high = math.log1p(sigma_min**2), math.log1p(sigma_max**2)
        beta_d = 2 * (low / epsilon - high) / (epsilon - 1)
        return cls(scaled, beta_d, high - beta_d / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t).sqrt()

    def sigma_derivative(self, t: Tensor) -> Tensor:
        sigma = self.sigma(t)
        return 0.5 * (self.beta_min + self.beta_d * t) * (sigma + 1 / sigma)

    def time(self, sigma: Tensor) -> Tensor:
        root = (self.beta_min**2 + 2 * self.beta_d * torch.log1p(sigma**2)).sqrt()
        # With beta_min < 0, which `through` may give, sigma is 0 at two times; clean images are at 0.
        return torch.where(sigma == 0, 0.0, (root - self.beta_min) / self.beta_d)


@dataclass(frozen=True)
class DiscreteVP(NoiseSchedule):
    """Discrete betas made continuous: log alpha is linear between t_i = (i + 1) / N (DPM-Solver)."""

    variance_preserving: bool = True
    betas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.betas) < 2:
            raise SkiptuneError(f"a discrete schedule needs at least 2 betas, got {len(self.betas)}")

    def _nodes(self) -> tuple[Tensor, Tensor]:
        betas = torch.tensor(self.betas, dtype=torch.float64)
        times = torch.arange(1, len(betas) + 1, dtype=torch.float64) / len(betas)
        return times, 0.5 * torch.log1p(-betas).cumsum(0)

    def sigma(self, t: Tensor) -> Tensor:
        value, _ = _interpolate(t, *self._nodes())
        return torch.expm1(-2 * value).sqrt()

    def sigma_derivative(self, t: Tensor) -> Tensor:
        _, slope = _interpolate(t, *self._nodes())
        sigma = self.sigma(t)
        return -slope * (sigma + 1 / sigma)

    def time(self, sigma: Tensor) -> Tensor:
        times, log_alphas = self._nodes()
        value, _ = _interpolate(-0.5 * torch.log1p(sigma**2), log_alphas.flip(0), times.flip(0))
        return value


def _interpolate(x: Tensor, nodes: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Piecewise linear interpolation over ascending nodes, continued beyond the ends: (value, slope)."""
    left = (torch.searchsorted(nodes, x.contiguous(), right=True) - 1).clamp(0, len(nodes) - 2)
    slope = (values[left + 1] - values[left]) / (nodes[left + 1] - nodes[left])
    return values[left] + slope * (x - nodes[left]), slope
