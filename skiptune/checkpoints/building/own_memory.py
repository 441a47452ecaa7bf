"""Tensors that lie over a mapped file, as tensors with memory of their own.

Copying through the mapping would leave the file's pages resident next to the copy, twice the memory; the
bytes are read from the file instead. Where the system does not tell what is mapped where (not Linux), or a
tensor is not contiguous, it is copied.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

MAPS = Path("/proc/self/maps")


class Mapping(NamedTuple):
    """Addresses ``start`` to ``end`` show the file ``path`` from the byte ``offset`` on."""

    start: int
    end: int
    offset: int
    path: str


class OwnMemory:
    """Copies tensors; as a context, as files that it reads stay open. Made after the files were mapped."""

    def __init__(self) -> None:
        self.mappings, self.files = list(mappings()), contextlib.ExitStack()
        self.opened: dict[str, int] = {}

    def __enter__(self) -> OwnMemory:
        return self

    def __exit__(self, *error: object) -> None:
        self.files.close()

    def copy(self, value: Tensor) -> Tensor:
        """An equal tensor in memory that torch has allocated."""
        address, size = value.data_ptr(), value.numel() * value.element_size()
        for mapping in self.mappings:
            if mapping.start <= address and address + size <= mapping.end and value.is_contiguous():
                copy = torch.empty_like(value)
                if self.read(mapping, address - mapping.start + mapping.offset, copy):
                    return copy
        return value.clone()

    def read(self, mapping: Mapping, position: int, target: Tensor) -> bool:
        """Fill ``target`` from the file; whether all of it was there."""
        if mapping.path not in self.opened:
            try:
                opened = os.open(mapping.path, os.O_RDONLY)
            except OSError:
                return False
            self.files.callback(os.close, opened)
            self.opened[mapping.path] = opened
        left: memoryview = target.reshape(-1).view(torch.uint8).numpy().data
        while left:
            count = os.preadv(self.opened[mapping.path], [left], position)
            if not count:
                return False
            left, position = left[count:], position + count
        return True


def mappings() -> Iterator[Mapping]:
    """The files that are mapped in this process; a file that was replaced since is left out."""
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        addresses, _, offset, _, _, *path = line.split(maxsplit=5)
        if path and path[0].startswith("/") and not path[0].endswith("(deleted)"):
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield Mapping(start, end, int(offset, 16), path[0])
