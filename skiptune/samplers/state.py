"""What all samplers share: a copyable state, and a sampler: a grid of noise levels with a rule for a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.grids import Grid, HasNoiseLevels, Levels

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x [N, C, H, W] float64, sigma [] float64 on the CPU) -> x0 [N, C, H, W]: a denoiser with its condition."""

NoiseAt = Callable[[int], Tensor]
"""step -> unit-variance noise [N, C, H, W] float64 for that step."""


@dataclass(frozen=True, eq=False)
class SamplerState:
    """A trajectory between two steps. No step writes into a state, so keeping one is enough to fork from it.

    x: [N, C, H, W] float64, the sample at level `step` of the grid.
    history: the multistep memory, whose meaning belongs to the sampler.
    """

    x: Tensor
    step: int = 0
    history: tuple[Tensor, ...] = ()

    def clone(self) -> SamplerState:
        """The same values in memory of their own."""
        return SamplerState(self.x.clone(), self.step, tuple(tensor.clone() for tensor in self.history))


@dataclass(frozen=True)
class Sampler(ABC):
    """A grid of noise levels and a rule for one step along it. Raises SkiptuneError if there is no step."""

    grid: Grid | Levels

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise SkiptuneError("a sampler needs at least 2 noise levels (1 step): raise the number of steps")
        ordered = self.sigmas.flip(0) if self.ascending else self.sigmas
        if not bool((ordered[1:] < ordered[:-1]).all()):
            raise SkiptuneError("noise levels must rise or fall strictly: use fewer steps or another grid")
        if not bool((self.sigmas[:-1] > 0).all()) or self.sigmas[-1] < 0:
            raise SkiptuneError("noise levels must be positive; only the last one may be 0")

    @property
    def sigmas(self) -> Tensor:
        """[num_steps + 1] float64, in the order of the trajectory."""
        return self.grid.sigmas

    @property
    def num_steps(self) -> int:
        """Number of calls of `step` between `start` and `finish`."""
        return len(self.sigmas) - 1

    @property
    def ascending(self) -> bool:
        """Whether the trajectory goes from image to noise (inversion)."""
        return bool(self.sigmas[0] < self.sigmas[-1])

    def reversed(self) -> Self:
        """The same rule the other way along the grid: inversion, from an image (in `start`) to noise."""
        return replace(self, grid=self.grid.reversed())

    def fitted(self, denoiser: HasNoiseLevels) -> Self:
        """The same rule with levels clipped and rounded to what the denoiser can do."""
        return replace(self, grid=self.grid.fitted(denoiser))

    def start(self, noise: Tensor) -> SamplerState:
        """Unit-variance noise [N, C, H, W] (an image if `ascending`) -> state at the first level."""
        x = noise.to(torch.float64)
        return SamplerState(x if self.ascending else x * self.sigmas[0])

    @abstractmethod
    def step(self, denoise: Denoise, state: SamplerState, noise_at: NoiseAt | None = None) -> SamplerState:
        """One step along the grid; `state` stays as it is. Raises SkiptuneError after the last step."""

    def finish(self, state: SamplerState) -> Tensor:
        """State -> sample [N, C, H, W] float64: an image, or x0 + sigma n of the last level if ascending."""
        return state.x

    def _check_unfinished(self, state: SamplerState) -> None:
        if not 0 <= state.step < self.num_steps:
            raise SkiptuneError(f"step {state.step} does not exist: the sampler has {self.num_steps} steps")
