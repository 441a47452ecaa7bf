"""Images to test extractors on, and how outputs are compared."""

from __future__ import annotations

import torch
from torch import Tensor


def pictures(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth colourful uint8 images that differ in contrast."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 5, 5, generator=generator) * torch.linspace(0.3, 2, n)[:, None, None, None]
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (smooth * 60 + 128).clamp(0, 255).to(torch.uint8)


def relative(a: Tensor, b: Tensor) -> float:
    """Norm of the difference by the norm of b."""
    return float((a - b).detach().norm() / b.detach().norm())
