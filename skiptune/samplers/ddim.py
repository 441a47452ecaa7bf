"""DDIM and DDPM's ancestral sampling, in EDM's variables x = x_vp / sqrt(abar), sigma^2 = 1 / abar - 1.

There both are one rule, ``x' = x0 + keep (x - x0) + spread n`` with x0 = D(x, sigma): DDIM's direction
``sqrt(1 - abar' - c^2) eps`` divided by sqrt(abar') is ``sqrt(sigma'^2 - spread^2) (x - x0) / sigma``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.discrete_grids import DiscreteSchedule, Timesteps
from skiptune.samplers.grids import HasNoiseLevels
from skiptune.samplers.state import Denoise, NoiseAt, Sampler, SamplerState


@dataclass(frozen=True)
class Ancestral(Sampler):
    """What both share. NFE = number of steps.

    timesteps: if given, the levels come from the denoiser's own schedule (see `DiscreteSchedule.of`), and the
    trajectory starts from and ends in variance-preserving scaling, as in the official programs.
    """

    timesteps: Timesteps | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def keep(self) -> Tensor:
        """[num_steps] float64: how much of x - x0 stays."""

    @property
    @abstractmethod
    def spread(self) -> Tensor:
        """[num_steps] float64: standard deviation of the new noise, in EDM's variables."""

    def estimate(self, denoise: Denoise, x: Tensor, sigma: Tensor) -> Tensor:
        """x0 [N, C, H, W] float64."""
        return denoise(x, sigma).to(torch.float64)

    def fitted(self, denoiser: HasNoiseLevels) -> Self:
        if self.timesteps is None:
            return super().fitted(denoiser)
        return replace(self, grid=self.timesteps.levels(DiscreteSchedule.of(denoiser)).fitted(denoiser))

    def reversed(self) -> Self:
        timesteps = None if self.timesteps is None else self.timesteps.reversed()
        return replace(super().reversed(), timesteps=timesteps)

    def start(self, noise: Tensor) -> SamplerState:
        state = super().start(noise)
        if self.timesteps is None or self.ascending:
            return state
        return SamplerState(noise.to(torch.float64) * (1 + self.sigmas[0] ** 2).sqrt())

    def finish(self, state: SamplerState) -> Tensor:
        if self.timesteps is None or self.ascending:
            return state.x
        return state.x / (1 + self.sigmas[state.step] ** 2).sqrt()

    def step(self, denoise: Denoise, state: SamplerState, noise_at: NoiseAt | None = None) -> SamplerState:
        self._check_unfinished(state)
        k, x = state.step, state.x
        x0 = self.estimate(denoise, x, self.sigmas[k])
        x_next = x0 + self.keep[k] * (x - x0)
        if self.spread[k] > 0:
            if noise_at is None:
                raise SkiptuneError("this sampler is stochastic: pass noise_at, or use ddim with eta 0")
            x_next = x_next + self.spread[k] * noise_at(k).to(x)
        return SamplerState(x_next, k + 1)

    @property
    def _posterior(self) -> Tensor:
        """Standard deviation of q(x' | x, x0): sigma' sqrt(1 - sigma'^2 / sigma^2)."""
        sigma, after = self.sigmas[:-1], self.sigmas[1:]
        return after * (1 - (after / sigma) ** 2).clamp(min=0).sqrt()


@dataclass(frozen=True)
class DDIM(Ancestral):
    """DDIM (Song et al. 2021, eq. 12): eta = 0 is deterministic, eta = 1 the smaller of DDPM's variances.

    With eta = 0 a step is an Euler step in sigma. x0 is not clipped, as in the official program.
    Raises SkiptuneError for eta outside [0, 1], or noise in an inversion.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise SkiptuneError(f"eta of DDIM is in [0, 1], got {self.eta}")
        if self.ascending and self.eta > 0:
            raise SkiptuneError("an inversion cannot add noise: set eta to 0")

    @cached_property
    def spread(self) -> Tensor:
        return self.eta * self._posterior

    @cached_property
    def keep(self) -> Tensor:
        return (self.sigmas[1:] ** 2 - self.spread**2).sqrt() / self.sigmas[:-1]


@dataclass(frozen=True)
class DDPM(Ancestral):
    """Ancestral sampling along a subsequence of times (Ho et al. 2020; `ddpm_steps` of ermongroup/ddim).

    variance: "large", beta = 1 - abar / abar' (official), or "small", the posterior's. clip: x0 to [-1, 1]
    (official; not for latents). The step to level 0 adds no noise.
    Raises SkiptuneError for another variance, or for an inversion.
    """

    variance: str = "large"
    clip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in ("large", "small"):
            raise SkiptuneError(f"unknown variance {self.variance!r} of DDPM: choose large or small")
        if self.ascending:
            raise SkiptuneError("DDPM adds noise and cannot invert: use ddim with eta 0")

    def estimate(self, denoise: Denoise, x: Tensor, sigma: Tensor) -> Tensor:
        x0 = super().estimate(denoise, x, sigma)
        return x0.clamp(-1, 1) if self.clip else x0

    @cached_property
    def spread(self) -> Tensor:
        if self.variance == "small":
            return self._posterior
        sigma, after = self.sigmas[:-1] ** 2, self.sigmas[1:] ** 2
        # beta / abar', with which the variance of x_vp' becomes that of x'.
        return torch.where(after > 0, (sigma - after) * (1 + after) / (1 + sigma), 0.0).sqrt()

    @cached_property
    def keep(self) -> Tensor:
        return (self.sigmas[1:] / self.sigmas[:-1]) ** 2
