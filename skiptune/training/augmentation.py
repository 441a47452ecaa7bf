"""Small random affine maps, for data sets too small to train a classifier on as they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def random_affine(
    images: Tensor, generator: torch.Generator, shift: float = 0.0, rotation: float = 0.0, scale: float = 0.0
) -> Tensor:
    """Each image of [N, C, R, R], float in [-1, 1], shifted, turned and scaled by its own uniform draw.

    `shift` in pixels, `rotation` in degrees, `scale` relative; each is the largest absolute change.
    What comes in from outside is black (-1). All zero returns the images as they are.
    """
    if not (shift or rotation or scale):
        return images
    n, resolution = len(images), images.shape[-1]
    dx, dy, turn, size = 2 * torch.rand(4, n, generator=generator) - 1
    angle, factor = turn * math.radians(rotation), 1 + size * scale
    cos, sin = angle.cos() * factor, angle.sin() * factor
    unit = 2 * shift / resolution  # the grid runs from -1 to 1
    theta = torch.stack([cos, -sin, dx * unit, sin, cos, dy * unit], 1).view(n, 2, 3).to(images)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1
