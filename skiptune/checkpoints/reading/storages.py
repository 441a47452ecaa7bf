"""Tensors over the bytes of a file: checked against what is there, then laid over it without a copy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from skiptune.checkpoints.reading.pickle_machine import Global, Refused

MOST_DIMENSIONS, LARGEST_NUMBER = 64, 2**62
DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}


@dataclass(frozen=True, eq=False)
class ElementType(Global):
    """``torch.FloatStorage`` or ``torch.FloatTensor`` in a file: a name for a type of elements."""

    dtype: torch.dtype = torch.float32


@dataclass(eq=False)
class Storage:
    """A run of elements in a file; ``data`` is filled in when its place is known."""

    dtype: torch.dtype
    numel: int
    data: memoryview | None = None

    @cached_property
    def untyped(self) -> torch.UntypedStorage:
        """The bytes for torch, one object per storage, so that tensors that share memory go on sharing it."""
        if self.data is None:
            raise Refused("refers to a storage whose bytes are missing")
        if len(self.data) != self.numel * self.dtype.itemsize:
            raise Refused(
                f"has {len(self.data)} bytes for a storage of {self.numel} elements of {self.dtype}"
            )
        if not self.numel:
            return torch.UntypedStorage(0)
        # Protocols before 3 have text in place of bytes, and what is made of it must not be written to.
        data = bytearray(self.data) if self.data.readonly else self.data
        return torch.frombuffer(data, dtype=torch.uint8).untyped_storage()


@dataclass(frozen=True, eq=False)
class Layout:
    """How a tensor lies in its storage. Raises Refused unless it lies inside and repeats no element."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        natural_numbers((self.offset,), "the offset of a tensor")
        natural_numbers(self.size, "the size of a tensor")
        natural_numbers(self.stride, "the stride of a tensor")
        if len(self.size) != len(self.stride):
            raise Refused("has a tensor with sizes and strides of different length")
        end = self.offset
        if elements := math.prod(self.size):
            end += sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True)) + 1
        if max(end, elements) > self.storage.numel:
            raise Refused(f"has a tensor of {elements} elements in a storage of {self.storage.numel}")


def natural_numbers(values: Any, what: str) -> tuple[int, ...]:
    """The values, if they are a tuple of natural numbers that torch and numpy can hold. Raises Refused."""
    if not isinstance(values, tuple) or len(values) > MOST_DIMENSIONS:
        raise Refused(f"has something as {what} that is none")
    if not all(type(value) is int and 0 <= value < LARGEST_NUMBER for value in values):
        raise Refused(f"has {what} that is not made of natural numbers")
    return values


class Tensors:
    """The tensors of a file: made empty while it is read, laid over its bytes when all storages are known."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Tensor, Layout]] = []

    def rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *details: Any) -> Tensor:
        """``torch._utils._rebuild_tensor_v2``; gradients and hooks are ignored. Raises Refused."""
        if not isinstance(storage, Storage):
            raise Refused("has a tensor without a storage")
        if len(details) > 2 and details[2]:
            raise Refused("has a tensor with conjugate or negative bits, which no official file has")
        tensor = torch.empty(0, dtype=storage.dtype)
        self.waiting.append((tensor, Layout(storage, offset, size, stride)))
        return tensor

    def lay(self) -> None:
        """Give every tensor its bytes. Raises Refused."""
        for tensor, layout in self.waiting:
            tensor.set_(layout.storage.untyped, layout.offset, layout.size, layout.stride)
        self.waiting.clear()
