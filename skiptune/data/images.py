"""The only place where images change between float in [-1, 1] and uint8."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(x: Tensor) -> Tensor:
    """Float images in [-1, 1] to uint8 with EDM's rounding: ``x * 127.5 + 128``, clipped and truncated."""
    return (x * 127.5 + 128).clip(0, 255).to(torch.uint8)


def from_uint8(x: Tensor) -> Tensor:
    """uint8 images to float32 in [-1, 1]: ``x / 127.5 - 1``."""
    return x.to(torch.float32) / 127.5 - 1
