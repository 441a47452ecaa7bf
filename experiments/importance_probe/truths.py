"""What a ranking of blocks should follow, measured on other images than the ranking."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.importance_probe.cases import Case
from experiments.importance_probe.rankings import SCALE
from skiptune.data.images import to_uint8
from skiptune.importance import Teacher, ablation_errors, images_without
from skiptune.samplers import Sampler

IMAGES = 8  # that the direct measures are taken on; a ranking has one, as the probe in the paper


def direct_measures(case: Case, sampler: Sampler, noise: Tensor) -> dict[str, Tensor]:
    """By name the harm done by changing one block at one step ``[S, m]`` float64, mean over the images.

    ``noise_skipped`` and ``noise_scaled``: the squared error of the noise prediction against that of the
    whole network; ``image_skipped``: the squared distance of the images, mean over pixels in [-1, 1];
    ``score_skipped``, where there is a scorer: what the image loses of its score.

    Args:
        noise: unit noise ``[n, C, H, W]``.
    """
    teacher = Teacher(case.denoiser, sampler, noise)
    whole, without = images_without(case.denoiser, sampler, noise)
    images = case.decode(whole)
    changed = torch.stack([case.decode(x) for x in without.flatten(0, 1)])
    shape = without.shape[:2]
    found = {
        "noise_skipped": ablation_errors(teacher).mean(dim=0),
        "noise_scaled": ablation_errors(teacher, SCALE).mean(dim=0),
        "image_skipped": (changed - images).double().square().mean(dim=(1, 2, 3, 4)).reshape(shape).cpu(),
    }
    if case.score is not None:
        scores = torch.stack([case.score(to_uint8(one)).double().mean() for one in (images, *changed)])
        found["score_skipped"] = (scores[0] - scores[1:]).reshape(shape)
    return found
