"""The cosine schedule of improved DDPM in continuous time, as wl-zhao/UniPC offers it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.samplers import NoiseSchedule

LAST_TIME = 0.9946
"""Where that program starts to sample: at time 1 no signal is left and sigma is infinite."""


@dataclass(frozen=True)
class CosineVP(NoiseSchedule):
    """alpha(t) = cos(angle(t)) / cos(angle(0)), angle(t) = pi (t + shift) / (2 (1 + shift))."""

    variance_preserving: bool = True
    shift: float = 0.008

    def _angle(self, t: Tensor) -> Tensor:
        return math.pi / 2 * (t + self.shift) / (1 + self.shift)

    def sigma(self, t: Tensor) -> Tensor:
        first = self._angle(torch.zeros_like(t))
        return torch.expm1(2 * (first.cos().log() - self._angle(t).cos().log())).sqrt()

    def sigma_derivative(self, t: Tensor) -> Tensor:
        sigma = self.sigma(t)
        return math.pi / 2 / (1 + self.shift) * self._angle(t).tan() * (sigma + 1 / sigma)

    def time(self, sigma: Tensor) -> Tensor:
        first = self._angle(torch.zeros_like(sigma))
        angle = torch.arccos(first.cos() * (1 + sigma**2) ** -0.5)
        return 2 / math.pi * (1 + self.shift) * angle - self.shift
