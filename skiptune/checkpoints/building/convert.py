"""Checkpoints as safetensors files that say how to build the network and load in a fraction of the time."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from skiptune.checkpoints.building.assemble import innermost
from skiptune.checkpoints.building.load import HEADER, PREFIX, Checkpoint
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import TEMPORARY_SUFFIX, file_digest, unwritable

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
PIECE = 1 << 24  # bytes written at a time
ALIGNMENT = 64  # of the first tensor, so that mapped weights can be computed with


def convert(checkpoint: Checkpoint, target: Path) -> str:
    """Write a loaded checkpoint, whole or not at all; returns the sha256 of the file.

    Raises:
        SkiptuneError: it cannot be written.
    """
    if target.suffix != ".safetensors":
        raise SkiptuneError(f"{target} must be named .safetensors, by which its format is recognised")
    said = {"description": checkpoint.description, "assumed": list(checkpoint.assumed)}
    write_safetensors(target, tensors(checkpoint), {HEADER: json.dumps(said), "format": "pt"})
    return file_digest(target)


def tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Parameters and buffers of the innermost denoiser, and of the autoencoder after its prefix."""
    denoiser = checkpoint.denoiser
    found = dict(innermost(denoiser).state_dict())
    if isinstance(denoiser, LatentDenoiser):
        first_stage = denoiser.get_submodule("autoencoder").state_dict()
        found |= {PREFIX + name: value for name, value in first_stage.items()}
    return found


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """A safetensors file, one tensor after the other, so that hardly any memory is needed.

    Raises:
        SkiptuneError: it cannot be written.
    """
    # Wider types first keeps every tensor aligned to its own.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, Any] = {"__metadata__": dict(texts)}
    offset = 0
    for name, value in ordered:
        end = offset + value.numel() * value.element_size()
        header[name] = {
            "dtype": TYPES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, value in ordered:
                write_tensor(file, value)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_tensor(file: BinaryIO, value: Tensor) -> None:
    """The bytes of a tensor in the order of its elements."""
    flat = value.detach().contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, len(flat), PIECE):
        file.write(flat[start : start + PIECE].numpy().data)
