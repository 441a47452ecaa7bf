"""Data to noise: the probability-flow ODE run backwards along a sampler's own grid (Skip-Tuning, eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from skiptune.samplers.sample import ConditionalDenoiser, bind
from skiptune.samplers.state import Sampler


@torch.no_grad()
def invert(
    sampler: Sampler, denoiser: ConditionalDenoiser, images: Tensor, condition: Tensor | None = None
) -> Tensor:
    """The noise from which `sampler` makes these images, up to the solver's error.

    The image is taken as the state at the sampler's lowest positive level (the ODE is singular at 0); the
    result is the state at its highest level divided by the factor that `Sampler.start` gives unit noise. So
    `sample(sampler, denoiser, invert(sampler, denoiser, images))` comes back to the images, with an error of
    the sampler's order in the step, plus sigma_min's share where the grid ends in 0. For data of standard
    deviation s the result has the variance 1 + (s / sigma_max)^2.

    images: [N, C, H, W]. condition: one-hot [N, K]. NFE: Euler n - 1, Heun 2 (n - 1), on n positive levels.
    Returns [N, C, H, W] float64. Raises SkiptuneError for a stochastic sampler.
    """
    forward, backward = sampler.fitted(denoiser), sampler.reversed().fitted(denoiser)
    denoise = bind(denoiser, condition)
    state = backward.start(images)
    for _ in range(backward.num_steps):
        state = backward.step(denoise, state)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64, device=images.device)
    return state.x / forward.start(one).x
