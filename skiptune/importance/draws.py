"""Random numbers that belong to a place in the probe, never to the order of work."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def uniform(low: float, high: float, shape: tuple[int, ...], *place: str | int) -> Tensor:
    """Uniform in ``[low, high)``, float64 on the CPU, a function of the place: seed, purpose, run, ..."""
    text = " ".join(["importance probe", *map(str, place)])
    digest = hashlib.blake2b(text.encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
