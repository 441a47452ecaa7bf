"""The only place where images change between float in [-1, 1] and uint8."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

# Official programs differ by half a step: EDM, DDIM and U-ViT round, consistency models and LDM cut off.
NEAREST = "nearest"
ROUNDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    NEAREST: lambda x: x * 127.5 + 128,
    "down": lambda x: (x + 1) * 127.5,
}


def to_uint8(x: Tensor, rounding: str = NEAREST) -> Tensor:
    """Float images in [-1, 1] to uint8: ``x * 127.5 + 128``, or ``(x + 1) * 127.5``, clipped and truncated.

    Raises:
        SkiptuneError: a rounding that is not in ``ROUNDINGS``.
    """
    if rounding not in ROUNDINGS:
        raise SkiptuneError(f"unknown rounding {rounding!r} of pixels; choose one of {', '.join(ROUNDINGS)}")
    return ROUNDINGS[rounding](x).clip(0, 255).to(torch.uint8)


def from_uint8(x: Tensor) -> Tensor:
    """uint8 images to float32 in [-1, 1]: ``x / 127.5 - 1``."""
    return x.to(torch.float32) / 127.5 - 1
