"""Random numbers that belong to images: every value is a function of the image's seed, never of the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

SEEDS = 1 << 32  # from here on they would repeat


def _check(seeds: Sequence[int], shape: Sequence[int]) -> None:
    if len(seeds) == 0:
        raise SkiptuneError("no seeds given: every image needs one")
    if len(shape) != 3:
        raise SkiptuneError(f"an image shape is (channels, height, width), got {tuple(shape)}")


def initial_noise(
    seeds: Sequence[int], shape: Sequence[int], num_classes: int = 0, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor | None]:
    """Unit noise [N, *shape] float32 and class labels [N] int64 (None if num_classes is 0).

    One generator per image, seeded with its seed modulo 2^32; it draws the latents first, then the label, as
    EDM's generation script does. A CUDA `device` draws there: other numbers, those of EDM's published images.
    Raises SkiptuneError without seeds or for a shape that is not (C, H, W).
    """
    _check(seeds, shape)
    noise, labels = [], []
    for seed in seeds:
        generator = torch.Generator(device).manual_seed(int(seed) % SEEDS)
        noise.append(torch.randn(tuple(shape), generator=generator, device=device))
        if num_classes:
            labels.append(torch.randint(num_classes, (), generator=generator, device=device))
    return torch.stack(noise), torch.stack(labels) if labels else None


def step_noise(
    seeds: Sequence[int], step: int, shape: Sequence[int], device: torch.device | str = "cpu"
) -> Tensor:
    """Unit noise [N, *shape] float64 for one sampler step, a function of (seed, step) alone.

    Drawn on the CPU and moved to `device`, so it does not depend on the kind of device.
    Raises SkiptuneError without seeds or for a shape that is not (C, H, W).
    """
    _check(seeds, shape)
    noise = []
    for seed in seeds:
        digest = hashlib.blake2b(f"step noise {int(seed)} {int(step)}".encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        noise.append(torch.randn(tuple(shape), generator=generator, dtype=torch.float64))
    return torch.stack(noise).to(device)
