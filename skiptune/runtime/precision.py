"""Precision of a network's products: what there is on which device, and a ``with`` block for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from skiptune.errors import SkiptuneError

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
HALF_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(precision: str, device: str) -> None:
    """Raises SkiptuneError for an unknown precision, and for tf32, which GPUs have, on a CPU."""
    if precision not in PRECISIONS:
        raise SkiptuneError(f"unknown precision {precision!r}: use one of {', '.join(PRECISIONS)}")
    if precision == "tf32" and device == "cpu":
        raise SkiptuneError("precision tf32 is one of GPUs: use fp32, bf16 or fp16 on a CPU")


@contextlib.contextmanager
def in_precision(precision: str, device: str) -> Iterator[None]:
    """Convolutions and matrix products of float32 tensors inside the block; a sampler's float64 stays."""
    if precision in HALF_PRECISIONS:
        with torch.autocast(device, dtype=HALF_PRECISIONS[precision]):
            yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
