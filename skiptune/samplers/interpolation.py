"""Paths between two latents, the unit noise that a deterministic sampler starts from (S2-DMs, Figure 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

# Below it, sin(theta) has lost its digits, and the arc is a line.
STRAIGHT = 1e-6

Path = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(first ends [N, C, H, W], last ends, weights [N] in [0, 1]) -> points [N, C, H, W] float64."""


def linear(first: Tensor, last: Tensor, weight: Tensor) -> Tensor:
    """``(1 - w) first + w last``. Of independent unit noise, the middle has only the variance 1/2."""
    first, last, w = first.to(torch.float64), last.to(torch.float64), _column(weight, first)
    return (1 - w) * first + w * last


def spherical(first: Tensor, last: Tensor, weight: Tensor) -> Tensor:
    """``(sin((1 - w) t) first + sin(w t) last) / sin t``, t the angle between the ends (Shoemake 1985; DDIM).

    Of independent unit noise, every point has about unit variance. Ends in one direction have a line between
    them. Raises SkiptuneError for ends in opposite directions, which no single arc joins.
    """
    first, last, w = first.to(torch.float64), last.to(torch.float64), _column(weight, first)
    a, b = first.flatten(1), last.flatten(1)
    cosine = ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).clamp(-1, 1)
    angle = _column(cosine.arccos(), first)
    straight = angle.sin() < STRAIGHT
    if bool((straight & (angle > 1)).any()):
        raise SkiptuneError("latents in opposite directions have no single arc between them: use others")
    sine = torch.where(straight, 1.0, angle.sin())
    # Divided before they multiply: at the ends the coefficients are exactly 1 and 0.
    arc = ((1 - w) * angle).sin() / sine * first + (w * angle).sin() / sine * last
    return torch.where(straight, (1 - w) * first + w * last, arc)


PATHS: Mapping[str, Path] = {"spherical": spherical, "linear": linear}


def _column(values: Tensor, images: Tensor) -> Tensor:
    """One number per image ``[N]`` as ``[N, 1, 1, 1]`` float64 beside the images."""
    return values.to(images.device, torch.float64).reshape(-1, *[1] * (images.dim() - 1))
