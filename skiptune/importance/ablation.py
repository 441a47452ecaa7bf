"""The direct measure of importance: the error of the noise prediction where one block is changed."""

from __future__ import annotations

import torch
from torch import Tensor

from skiptune.importance.teacher import Teacher


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
