"""Weights as bytes: equal weights and equal header give equal bytes, so that a digest names them."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor


def safetensors_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; the library itself writes the entries of ``metadata`` in random order."""
    content = save(dict(tensors), metadata=dict(metadata))
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    padded = text.ljust(-(-len(text) // 8) * 8)  # tensors begin at a multiple of 8
    return struct.pack("<Q", len(padded)) + padded + content[8 + size :]
