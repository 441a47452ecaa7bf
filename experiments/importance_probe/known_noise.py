"""Clean images of prompts with noise that is known, for errors of the noise prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from experiments.importance_probe.prompts import PromptList
from skiptune.data.images import from_uint8
from skiptune.data.prompted_glyphs import render
from skiptune.data.prompts_of_glyphs import Prompt
from skiptune.runtime.prompted import PromptedModel
from skiptune.samplers import Sampler, initial_noise
from skiptune.samplers.sample import sample

# Added to noise seeds: a clean image shares nothing with the noise that is added to it, nor with one that
# weights were found with.
MEASURED, FOUND_WITH = 500_000, 600_000


def clean_images(
    made: PromptedModel,
    prompts: PromptList,
    numbers: Sequence[int],
    rows: Sequence[int],
    sampler: Sampler,
    use: int,
) -> Tensor:
    """What the denoiser is to see of these images' prompts ``[N, C, H, W]``: rendered, or sampled by the
    model itself from other noise where prompts have no images.

    Args:
        rows: of the prompts in ``made``.
        use: ``MEASURED`` or ``FOUND_WITH``, which have no image in common.
    """
    seeds = [prompts.noise_seed(number) + use for number in numbers]
    if prompts.glyphs:
        images = [
            render(Prompt.of_number(prompts.glyphs[number // 2]), np.random.default_rng(seed))
            for number, seed in zip(numbers, seeds, strict=True)
        ]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        return from_uint8(pixels).to(made.device)
    denoiser = made.of(rows)
    noise, _ = initial_noise(seeds, denoiser.image_shape)
    return sample(sampler, denoiser, noise.to(made.device)).float()
