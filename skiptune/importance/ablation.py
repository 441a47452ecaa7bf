"""Direct measures of importance: noise prediction and image where one block is changed or skipped."""

from __future__ import annotations

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.importance.teacher import Teacher
from skiptune.interventions.blocks import AttentionPruning, find_transformer_blocks
from skiptune.samplers import Sampler
from skiptune.samplers.sample import bind
from skiptune.samplers.state import SamplerState


def ablation_errors(teacher: Teacher, weight: float | None = None) -> Tensor:
    """Mean squared error of every sample, step and block, ``[n, S, m]`` float64.

    It costs one network evaluation per block and step.

    Args:
        weight: of the changed block; ``None`` skips it.
    """
    m = len(teacher.blocks)
    one = torch.eye(m, dtype=torch.bool)
    weights = torch.ones(m, m)
    if weight is not None:
        weights[one], one = weight, torch.zeros_like(one)
    return torch.stack([teacher.errors(step, weights, one) for step in range(teacher.steps)]).permute(2, 0, 1)


@torch.no_grad()
def images_without(
    denoiser: Denoiser, sampler: Sampler, noise: Tensor, condition: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Samples of the whole network ``[n, C, H, W]``, and ``[S, m, n, C, H, W]`` with one block skipped at one
    step; float64 (latents of a latent model).

    It costs ``S (S + 1) / 2`` network calls on ``m n`` images and S on n: steps before the skip are shared.

    Args:
        denoiser, sampler, noise, condition: as of ``Teacher``.
    """
    sampler, count = sampler.fitted(denoiser), len(find_transformer_blocks(denoiser))
    whole, parted = bind(denoiser, condition), bind(denoiser, repeated(condition, count))
    skipped = torch.eye(count, dtype=torch.bool).repeat_interleave(len(noise), dim=0)
    state, found = sampler.start(noise), []
    for _ in range(sampler.num_steps):
        history = tuple(past.repeat(count, 1, 1, 1) for past in state.history)
        fork = SamplerState(state.x.repeat(count, 1, 1, 1), state.step, history)
        with AttentionPruning(skipped[None]).attached_to(denoiser):
            fork = sampler.step(parted, fork)
        while fork.step < sampler.num_steps:
            fork = sampler.step(parted, fork)
        found.append(sampler.finish(fork).unflatten(0, (count, len(noise))))
        state = sampler.step(whole, state)
    return sampler.finish(state), torch.stack(found)


def repeated(condition: Tensor | None, times: int) -> Tensor | None:
    return None if condition is None else condition.repeat(times, 1)
