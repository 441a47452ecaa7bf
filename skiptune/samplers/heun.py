"""Euler and Heun steps of the probability-flow ODE, with optional churn (EDM, Karras et al. 2022)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.grids import HasNoiseLevels
from skiptune.samplers.schedules import Linear, NoiseSchedule
from skiptune.samplers.state import Denoise, NoiseAt, Sampler, SamplerState


@dataclass(frozen=True)
class Churn:
    """Noise added before a step whose level is in [S_min, S_max] (EDM, Algorithm 2); the paper's names."""

    S_churn: float = 0.0
    S_min: float = 0.0
    S_max: float = math.inf
    S_noise: float = 1.0

    def __post_init__(self) -> None:
        if not (self.S_churn >= 0 and self.S_noise >= 0 and self.S_min <= self.S_max):
            raise SkiptuneError(f"churn needs S_churn >= 0, S_noise >= 0 and S_min <= S_max, got {self}")

    def raised(self, sigmas: Tensor) -> Tensor:
        """[num_steps + 1] levels -> [num_steps] levels after adding noise: sigma (1 + gamma)."""
        gamma = min(self.S_churn / (len(sigmas) - 1), math.sqrt(2) - 1)
        active = (sigmas[:-1] >= self.S_min) & (sigmas[:-1] <= self.S_max)
        return torch.where(active, sigmas[:-1] * (1 + gamma), sigmas[:-1])


@dataclass(frozen=True)
class Euler(Sampler):
    """First-order steps in the time of `schedule`; EDM's own choice is sigma(t) = t, s(t) = 1.

    NFE = number of steps. Raises SkiptuneError for churn in an inversion, or without `noise_at`.
    """

    schedule: NoiseSchedule = Linear()
    churn: Churn = Churn()
    rounded: tuple[float, ...] = field(default=(), kw_only=True)
    """Levels after churn, rounded to those of the denoiser; set by `fitted`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ascending and self.churn.S_churn > 0:
            raise SkiptuneError("an inversion cannot add noise: set S_churn to 0")

    @cached_property
    def _raised(self) -> Tensor:
        if self.rounded:
            return torch.tensor(self.rounded, dtype=torch.float64)
        return self.churn.raised(self.sigmas)

    def fitted(self, denoiser: HasNoiseLevels) -> Self:
        fitted = replace(super().fitted(denoiser), rounded=())
        rounded = torch.as_tensor(denoiser.round_sigma(fitted._raised)).to("cpu", torch.float64)
        return replace(fitted, rounded=tuple(rounded.tolist()))

    def reversed(self) -> Self:
        return replace(super().reversed(), rounded=())

    def start(self, noise: Tensor) -> SamplerState:
        state = super().start(noise)
        return SamplerState(state.x * self.schedule.scale(self.schedule.time(self.sigmas[0])))

    def step(self, denoise: Denoise, state: SamplerState, noise_at: NoiseAt | None = None) -> SamplerState:
        self._check_unfinished(state)
        x, t = self._churned(state, noise_at)
        t_next = self.schedule.time(self.sigmas[state.step + 1])
        return SamplerState(self._advance(denoise, x, t, t_next), state.step + 1)

    def finish(self, state: SamplerState) -> Tensor:
        return state.x / self.schedule.scale(self.schedule.time(self.sigmas[state.step]))

    def _advance(self, denoise: Denoise, x: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        return x + (t_next - t) * self._slope(denoise, x, t)

    def _churned(self, state: SamplerState, noise_at: NoiseAt | None) -> tuple[Tensor, Tensor]:
        """The state and its time after noise was added (EDM, Algorithm 2, lines 4-6)."""
        sigma, raised = self.sigmas[state.step], self._raised[state.step]
        t, t_hat = self.schedule.time(sigma), self.schedule.time(raised)
        # Rounding can also lower a level; only a rise is noise.
        if self.churn.S_churn == 0 or not raised > sigma:
            return state.x, t
        if noise_at is None:
            raise SkiptuneError("churn needs random numbers: pass noise_at, or set S_churn to 0")
        noise = noise_at(state.step).to(state.x)
        ratio = self.schedule.scale(t_hat) / self.schedule.scale(t)
        spread = (raised**2 - sigma**2).sqrt() * self.schedule.scale(t_hat) * self.churn.S_noise
        return ratio * state.x + spread * noise, t_hat

    def _slope(self, denoise: Denoise, x: Tensor, t: Tensor) -> Tensor:
        """dx/dt of the ODE (EDM, eq. 81): (sigma'/sigma + s'/s) x - (sigma' s/sigma) D(x/s, sigma)."""
        sigma, scale = self.schedule.sigma(t), self.schedule.scale(t)
        growth = self.schedule.sigma_derivative(t) / sigma
        x0 = denoise(x / scale, sigma).to(torch.float64)
        return (growth + self.schedule.scale_derivative(t) / scale) * x - growth * scale * x0


@dataclass(frozen=True)
class Heun(Euler):
    """Second-order steps: a trial step of length `alpha`, then a mix of both slopes (EDM, Algorithm 3).

    alpha = 1 is Heun. A step to sigma = 0 is an Euler step: NFE = 2 N - 1 on EDM's grid of N levels and a 0.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha <= 1:
            raise SkiptuneError(f"alpha of a second-order step must be in (0, 1], got {self.alpha}")

    def _advance(self, denoise: Denoise, x: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
        h = t_next - t
        slope = self._slope(denoise, x, t)
        if t_next == 0:
            return x + h * slope
        trial = self._slope(denoise, x + self.alpha * h * slope, t + self.alpha * h)
        weight = 1 / (2 * self.alpha)
        return x + h * ((1 - weight) * slope + weight * trial)
