"""The loop from noise to images (or from images to noise) for every sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from skiptune.samplers.grids import HasNoiseLevels
from skiptune.samplers.state import Denoise, NoiseAt, Sampler, SamplerState


class ConditionalDenoiser(HasNoiseLevels, Protocol):
    """D(x [N, C, H, W], sigma [], condition [N, K] | None) -> x0 [N, C, H, W]; it casts x itself."""

    def __call__(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor: ...


def bind(denoiser: ConditionalDenoiser, condition: Tensor | None = None) -> Denoise:
    """The denoiser with its condition fixed: what `Sampler.step` asks for. sigma moves to the device of x."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return denoiser(x, sigma.to(x.device), condition)

    return denoise


@torch.no_grad()
def sample(
    sampler: Sampler,
    denoiser: ConditionalDenoiser,
    noise: Tensor,
    condition: Tensor | None = None,
    noise_at: NoiseAt | None = None,
    callback: Callable[[SamplerState], None] | None = None,
) -> Tensor:
    """Run `sampler`, fitted to the range and levels of `denoiser`, from start to finish.

    noise: [N, C, H, W] unit variance (an image if the sampler is reversed). condition: one-hot [N, K].
    noise_at: noise of a stochastic step. callback: sees every state, the first one included.
    Returns [N, C, H, W] float64. Raises SkiptuneError as `Sampler.step` and `Sampler.fitted` do.
    """
    sampler = sampler.fitted(denoiser)
    denoise = bind(denoiser, condition)
    state = sampler.start(noise)
    for _ in range(sampler.num_steps):
        if callback is not None:
            callback(state)
        state = sampler.step(denoise, state, noise_at)
    if callback is not None:
        callback(state)
    return sampler.finish(state)
