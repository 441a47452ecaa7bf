"""Sampling of consistency models: jump to the image, add less noise, jump again (Song et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.state import Denoise, NoiseAt, Sampler, SamplerState


@dataclass(frozen=True)
class Consistency(Sampler):
    """``x' = D(x, sigma) + sqrt(sigma'^2 - sigma_min^2) n`` (Song et al. 2023, Algorithm 1).

    The last level of the grid is ``sigma_min``, where no noise is added: one step from ``sigma_max`` is the
    one-step sample. NFE = number of steps. Samples are clipped to [-1, 1], and with ``clip`` all estimates.

    Raises:
        SkiptuneError: an inversion; a step that adds noise without ``noise_at``.
    """

    clip: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ascending:
            raise SkiptuneError("a consistency model cannot be inverted: its steps are jumps, not a path")

    def step(self, denoise: Denoise, state: SamplerState, noise_at: NoiseAt | None = None) -> SamplerState:
        self._check_unfinished(state)
        x0 = denoise(state.x, self.sigmas[state.step]).to(torch.float64)
        x0 = x0.clamp(-1, 1) if self.clip else x0
        spread = (self.sigmas[state.step + 1] ** 2 - self.sigmas[-1] ** 2).sqrt()
        if spread > 0:
            if noise_at is None:
                raise SkiptuneError("several consistency steps need random numbers: pass noise_at")
            x0 = x0 + spread * noise_at(state.step).to(x0)
        return SamplerState(x0, state.step + 1)

    def finish(self, state: SamplerState) -> Tensor:
        return state.x.clamp(-1, 1)
