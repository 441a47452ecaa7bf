"""A chunk file: named tensors in one safetensors file that carries its own checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import canonical_json, unreadable, write_atomic

# A safetensors file: 8 bytes length of the header (little endian), JSON header, the tensors' bytes.
_LENGTH_BYTES = 8


def write(path: Path, tensors: Mapping[str, Tensor], owner: str) -> None:
    """Write tensors (any device) atomically. `owner` says whose chunk it is and enters the checksum.

    Raises SkiptuneError for NaN or inf in a floating tensor, and if the file cannot be written.
    """
    for name, tensor in tensors.items():
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise SkiptuneError(
                f"tensor '{name}' of chunk {owner} has {bad} NaN or inf values, nothing was written: "
                "check the checkpoint, the noise levels and the strength of the intervention"
            )
    # Clones, because safetensors refuses tensors that share memory.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    content = save(copies)
    write_atomic(path, save(copies, metadata={"sha256": _checksum(*_split(content), owner)}))


def read(path: Path, owner: str) -> dict[str, Tensor]:
    """Tensors on the CPU. Raises SkiptuneError if the file is missing, damaged or another owner's."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        header, data = _split(content)
        if header["__metadata__"]["sha256"] != _checksum(header, data, owner):
            raise ValueError("checksum differs")
        return load(content)
    except (ValueError, KeyError, TypeError, SafetensorError, SkiptuneError) as error:
        raise damaged(path, error) from error


def check_size(path: Path) -> None:
    """Cheap test for a cut-off file: its size against its header. Raises SkiptuneError if they do not fit."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            size = path.stat().st_size
            header = json.loads(file.read(min(length, size)))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = _LENGTH_BYTES + length + max(ends, default=0)
        if size != expected:
            raise ValueError(f"{size} bytes instead of {expected}")
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, reason: object) -> SkiptuneError:
    """The one-line error for a chunk that must not enter a result."""
    why = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return SkiptuneError(
        f"chunk {path} is damaged ({why}): "
        "delete it and run the same command again; the other chunks are kept"
    )


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    return json.loads(content[_LENGTH_BYTES:start]), memoryview(content)[start:]


def _checksum(header: Mapping[str, Any], data: memoryview, owner: str) -> str:
    """SHA-256 over the owner, the tensors' names, dtypes, shapes and offsets, and their bytes."""
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    checksum = hashlib.sha256(canonical_json([owner, entries]).encode())
    checksum.update(data)
    return checksum.hexdigest()
