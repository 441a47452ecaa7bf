"""Pseudo numerical methods (Liu et al. 2022, PNDM): a multistep estimate of the noise, then DDIM's transfer.

In EDM's variables DDIM's transfer from sigma to sigma' is ``x + (sigma' - sigma) eps``. What remains special
is how the official program (luping-liu/PNDM) reads its schedule:

* a sample of time t is transferred as one of level t + 1, and the last time, -1, has level 0 of the table;
* the network is told t, and sees the same variance-preserving sample;
* halfway between two times the network is told the fraction, the transfer truncates it.

``indexing="official"`` does that. ``"matched"`` takes t as t everywhere and ends without noise, as DDIM does.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.discrete_grids import DiscreteSchedule, Timesteps, ddpm_schedule
from skiptune.samplers.grids import HasNoiseLevels, Levels
from skiptune.samplers.state import Denoise, NoiseAt, Sampler, SamplerState

INDEXINGS = ("official", "matched")
ADAMS_BASHFORTH = (55 / 24, -59 / 24, 37 / 24, -9 / 24)


@dataclass(frozen=True)
class PseudoNumerical(Sampler):
    """What the methods share; make one with `along`. `grid` holds the levels of the transfers.

    history: earlier outputs, newest first. Raises SkiptuneError for too few steps, or another indexing.
    """

    timesteps: Timesteps = Timesteps(50)
    schedule: DiscreteSchedule = field(default_factory=ddpm_schedule)
    indexing: str = "official"

    fewest: ClassVar[int]
    """Steps that the method needs: its start-up, and one more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_steps < self.fewest:
            raise SkiptuneError(f"{type(self).__name__} needs {self.fewest} steps, got {self.num_steps}")

    @classmethod
    def along(
        cls, timesteps: Timesteps, schedule: DiscreteSchedule | None = None, indexing: str = "official"
    ) -> Self:
        """The method along the times of a schedule (DDPM's until fitted to a denoiser)."""
        if indexing not in INDEXINGS:
            raise SkiptuneError(f"unknown indexing {indexing!r}: choose one of {', '.join(INDEXINGS)}")
        schedule = ddpm_schedule() if schedule is None else schedule
        visited = _visited(timesteps, schedule)
        levels = tuple(_level(schedule, indexing, time) for time in visited)
        return cls(Levels(levels), timesteps, schedule, indexing)

    @cached_property
    def times(self) -> tuple[int, ...]:
        """The times of the levels, falling; the last one, -1, is never evaluated."""
        return _visited(self.timesteps, self.schedule)

    def fitted(self, denoiser: HasNoiseLevels) -> Self:
        # The levels are not rounded: those of the official indexing are the network's own, one time later.
        return self.along(self.timesteps, DiscreteSchedule.of(denoiser), self.indexing)

    def reversed(self) -> Self:
        raise SkiptuneError(f"{type(self).__name__} has no inversion: use ddim with eta 0, or heun")

    def start(self, noise: Tensor) -> SamplerState:
        """From the variance-preserving sample of unit variance, as the official program does."""
        return SamplerState(noise.to(torch.float64) * _scale(float(self.sigmas[0])))

    def finish(self, state: SamplerState) -> Tensor:
        return state.x / _scale(float(self.sigmas[state.step]))

    def level(self, time: float) -> float:
        """sigma of a sample of that time."""
        return _level(self.schedule, self.indexing, time)

    def predict(self, denoise: Denoise, x_vp: Tensor, time: float) -> Tensor:
        """The network's noise estimate [N, C, H, W] for a variance-preserving sample, told that time."""
        sigma = self.schedule.sigma(time)
        x = x_vp * _scale(sigma)
        return (x - denoise(x, torch.tensor(sigma, dtype=torch.float64)).to(torch.float64)) / sigma

    def step(self, denoise: Denoise, state: SamplerState, noise_at: NoiseAt | None = None) -> SamplerState:
        self._check_unfinished(state)
        k = state.step
        x, output = self._advance(denoise, state)
        return SamplerState(x, k + 1, (output, *state.history)[: self.fewest - 1])

    @abstractmethod
    def _advance(self, denoise: Denoise, state: SamplerState) -> tuple[Tensor, Tensor]:
        """The next sample, and what goes into the history."""


@dataclass(frozen=True)
class Transferring(PseudoNumerical):
    """A combination of noise estimates, then one transfer."""

    def eps(self, denoise: Denoise, x: Tensor, time: float) -> Tensor:
        """The noise estimate for a sample of the level of that time, in EDM's variables."""
        return self.predict(denoise, x / _scale(self.level(time)), time)

    def transfer(self, x: Tensor, time: float, to: float, eps: Tensor) -> Tensor:
        """From the level of one time to that of another."""
        return x + (self.level(to) - self.level(time)) * eps


@dataclass(frozen=True)
class SPNDM(Transferring):
    """S-PNDM: improved Euler first, then (3 eps - eps') / 2. NFE = steps + 1."""

    fewest: ClassVar[int] = 2

    def _advance(self, denoise: Denoise, state: SamplerState) -> tuple[Tensor, Tensor]:
        x, time, to = state.x, self.times[state.step], self.times[state.step + 1]
        eps = self.eps(denoise, x, time)
        if state.history:
            mean = (3 * eps - state.history[0]) / 2
        else:
            mean = (eps + self.eps(denoise, self.transfer(x, time, to, eps), to)) / 2
        return self.transfer(x, time, to, mean), eps


@dataclass(frozen=True)
class FPNDM(Transferring):
    """F-PNDM: three pseudo Runge-Kutta steps, then Adams-Bashforth of order 4. NFE = steps + 9."""

    fewest: ClassVar[int] = 4

    def _advance(self, denoise: Denoise, state: SamplerState) -> tuple[Tensor, Tensor]:
        x, time, to = state.x, self.times[state.step], self.times[state.step + 1]
        eps = self.eps(denoise, x, time)
        if len(state.history) == 3:
            mean = _weighted(ADAMS_BASHFORTH, (eps, *state.history))
        else:
            middle = (time + to) / 2
            second = self.eps(denoise, self.transfer(x, time, middle, eps), middle)
            third = self.eps(denoise, self.transfer(x, time, middle, second), middle)
            fourth = self.eps(denoise, self.transfer(x, time, to, third), to)
            mean = _weighted((1 / 6, 1 / 3, 1 / 3, 1 / 6), (eps, second, third, fourth))
        return self.transfer(x, time, to, mean), eps


@dataclass(frozen=True)
class FON(PseudoNumerical):
    """Classical fourth order, the paper's comparison: slopes of the variance-preserving sample, over one unit
    of time. Runge-Kutta first, then Adams-Bashforth. NFE = steps + 9."""

    fewest: ClassVar[int] = 4

    def _advance(self, denoise: Denoise, state: SamplerState) -> tuple[Tensor, Tensor]:
        k = state.step
        time, to = self.times[k], self.times[k + 1]
        x, h = state.x / _scale(self.level(time)), time - to

        def slope(at: Tensor, told: float) -> Tensor:
            # As in the official program, only the noise estimate knows the point and time of a stage.
            before, after = self.level(time), self.level(time - 1)
            moved = x * _scale(before) + (after - before) * self.predict(denoise, at, told)
            return moved / _scale(after) - x

        first = slope(x, time)
        if len(state.history) == 3:
            mean = _weighted(ADAMS_BASHFORTH, (first, *state.history))
        else:
            middle = (time + to) / 2
            second = slope(x + h / 2 * first, middle)
            third = slope(x + h / 2 * second, middle)
            fourth = slope(x + h * third, to)
            mean = _weighted((1 / 6, 1 / 3, 1 / 3, 1 / 6), (first, second, third, fourth))
        return (x + h * mean) * _scale(self.level(to)), first


def _visited(timesteps: Timesteps, schedule: DiscreteSchedule) -> tuple[int, ...]:
    return (*timesteps.times(schedule.num_timesteps)[::-1], -1)


def _level(schedule: DiscreteSchedule, indexing: str, time: float) -> float:
    if indexing == "official":
        # The table ends at T - 1; with time T - 1 (1000 steps) it is continued, where the program stops.
        return schedule.sigma(math.floor(time) + 1)
    return schedule.sigma(time) if time >= 0 else 0.0


def _scale(sigma: float) -> float:
    """EDM's variables per variance-preserving ones: 1 / sqrt(abar)."""
    return math.sqrt(1 + sigma**2)


def _weighted(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = total + weight * value
    return total
