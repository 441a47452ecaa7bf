"""Noise levels of models trained in discrete time: a schedule, and which of its times are visited."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.grids import HasNoiseLevels, Levels


@dataclass(frozen=True)
class DiscreteSchedule:
    """abar_t at the times t = 0 .. T - 1, in float64; sigma_t^2 = 1 / abar_t - 1 in EDM's variables.

    Raises SkiptuneError unless abar falls strictly inside (0, 1).
    """

    alphas_cumprod: tuple[float, ...] = field(repr=False)

    def __post_init__(self) -> None:
        values = (1.0, *self.alphas_cumprod, 0.0)
        if len(values) < 4 or any(a <= b for a, b in zip(values, values[1:], strict=False)):
            raise SkiptuneError("a discrete schedule needs at least 2 abar that fall strictly inside (0, 1)")

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.alphas_cumprod)

    @cached_property
    def sigmas(self) -> Tensor:
        """[T] float64, rising."""
        return (1 / torch.tensor(self.alphas_cumprod, dtype=torch.float64) - 1).sqrt()

    def sigma(self, time: float) -> float:
        """sigma at a time, also a fractional one: linear in log sigma, continued beyond the ends."""
        left = min(max(math.floor(time), 0), self.num_timesteps - 2)
        low, high = float(self.sigmas[left]), float(self.sigmas[left + 1])
        if time == left:
            return low
        return high if time == left + 1 else low * (high / low) ** (time - left)

    @classmethod
    def of(cls, denoiser: HasNoiseLevels) -> DiscreteSchedule:
        """The denoiser's own, from its `alphas_cumprod`; else DDPM's, cut to the denoiser's range."""
        own = getattr(denoiser, "alphas_cumprod", None)
        if own is not None:
            return cls(tuple(own.tolist()))
        low, high = float(denoiser.sigma_min), float(denoiser.sigma_max)
        ddpm = ddpm_schedule()
        inside = (ddpm.sigmas >= low) & (ddpm.sigmas <= high)
        return cls(tuple(alpha for alpha, keep in zip(ddpm.alphas_cumprod, inside, strict=True) if keep))


@cache
def ddpm_schedule() -> DiscreteSchedule:
    """1000 betas, linear from 1e-4 to 0.02 (Ho et al. 2020; DDIM's CIFAR-10 and CelebA models)."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return DiscreteSchedule(tuple((1 - betas).cumprod(0).tolist()))


def uniform_times(num_timesteps: int, steps: int) -> tuple[int, ...]:
    """range(0, T, T // steps), rising: more than `steps` times where `steps` does not divide T (ddim)."""
    return tuple(range(0, num_timesteps, num_timesteps // steps))


def leading_times(num_timesteps: int, steps: int) -> tuple[int, ...]:
    """The first `steps` of `uniform_times`: 0, 66, ..., 924 of 15 (diffusers' "leading", SD 2.1 and SDXL)."""
    return uniform_times(num_timesteps, steps)[:steps]


def quad_times(num_timesteps: int, steps: int) -> tuple[int, ...]:
    """floor of the squares of `steps` even values from 0 to sqrt(0.8 T), rising; the first may repeat."""
    if steps == 1:
        return (0,)
    top = math.sqrt(0.8 * num_timesteps)
    roots = [i * (top / (steps - 1)) for i in range(steps - 1)] + [top]
    return tuple(int(root**2) for root in roots)


def trailing_times(num_timesteps: int, steps: int) -> tuple[int, ...]:
    """From the last time down by T / steps, rising: 332, 666, 999 (diffusers' "trailing", Turbo models)."""
    return tuple(round(num_timesteps * (i + 1) / steps) - 1 for i in range(steps))


SPACINGS = {
    "uniform": uniform_times, "leading": leading_times, "quad": quad_times, "trailing": trailing_times,
}  # fmt: skip
ENDS = ("zero", "first")


@dataclass(frozen=True)
class Timesteps:
    """Which times of a schedule a sampler visits, whatever the schedule.

    spacing: "uniform" or "quad" (ermongroup/ddim); "leading", or "trailing", which begins at the last time
        (diffusers).
    offset: added to every time; latent diffusion has 1.
    end: the level after the last time, "zero" (abar = 1) or "first" (abar_0, latent diffusion).
    ascending: from image to noise, for inversion.
    Raises SkiptuneError for other values.
    """

    steps: int
    spacing: str = "uniform"
    offset: int = 0
    end: str = "zero"
    ascending: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise SkiptuneError(f"a sampler needs at least 1 step, got {self.steps} steps")
        if self.spacing not in SPACINGS:
            raise SkiptuneError(f"unknown spacing {self.spacing!r}: choose one of {', '.join(SPACINGS)}")
        if self.end not in ENDS:
            raise SkiptuneError(f"unknown end {self.end!r} of the times: choose one of {', '.join(ENDS)}")
        visits_first = self.offset == 0 and self.spacing != "trailing"
        if self.offset < 0 or (self.end == "first" and visits_first):
            raise SkiptuneError(
                f"offset {self.offset} does not go with end {self.end!r}: an offset is at least 0, with end "
                "first at least 1"
            )

    def times(self, num_timesteps: int) -> tuple[int, ...]:
        """Rising, without repetitions: a repeated time changes nothing and would cost an evaluation.

        Raises SkiptuneError if the schedule does not have as many times.
        """
        if self.steps > num_timesteps:
            raise SkiptuneError(f"{self.steps} steps are more than the {num_timesteps} times of the schedule")
        every = [time + self.offset for time in SPACINGS[self.spacing](num_timesteps, self.steps)]
        if every[-1] >= num_timesteps:
            raise SkiptuneError(
                f"{self.steps} steps with offset {self.offset} reach time {every[-1]}, the last one is "
                f"{num_timesteps - 1}: take another number of steps"
            )
        return tuple(dict.fromkeys(every))

    def levels(self, schedule: DiscreteSchedule) -> Levels:
        """The noise levels, in the order in which they are visited."""
        times = list(self.times(schedule.num_timesteps))
        end = 0.0 if self.end == "zero" else float(schedule.sigmas[0])
        levels = Levels((*schedule.sigmas[times].flip(0).tolist(), end))
        return levels.reversed() if self.ascending else levels

    def reversed(self) -> Timesteps:
        """Visited the other way."""
        return replace(self, ascending=not self.ascending)
