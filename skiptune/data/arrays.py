"""Images of an npz file, as ADM's sampling scripts and reference batches have them, read row by row."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from skiptune.data.folder import SPLITS
from skiptune.errors import SkiptuneError


class ArrayImages:
    """uint8 images [N, C, H, W] of the array [N, H, W, C] in an npz file (`arr_0`, or the first such array).

    Only the rows asked for are in memory; rows of a compressed file are cheap in ascending order. Pickled
    objects are refused. Splits and seeds as for folders. Raises SkiptuneError if there are no images in it.
    """

    num_classes = 0

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path, self.name = path, name or str(path)
        try:
            self._archive = zipfile.ZipFile(path)
            members = sorted(self._archive.namelist(), key=lambda member: (member != "arr_0.npy", member))
            headers = {member: self._header(member) for member in members if member.endswith(".npy")}
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise SkiptuneError(f"{path} is no npz file of plain arrays ({error})") from error
        found = [
            member
            for member, (shape, fortran, dtype, _) in headers.items()
            if len(shape) == 4 and shape[0] and shape[3] in (1, 3) and dtype == np.uint8 and not fortran
        ]
        if not found:
            raise SkiptuneError(f"{path} holds no images: expected an array [N, H, W, C] of uint8")
        self._member = found[0]
        (self._count, height, width, channels), _, _, self._start = headers[self._member]
        self.image_shape = (channels, height, width)
        self._row = height * width * channels
        self._file: IO[bytes] | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the shape and all pixels."""
        hashed = hashlib.sha256(repr((self._count, *self.image_shape)).encode())
        for start in range(0, self._count, 256):
            hashed.update(self._read(start, min(256, self._count - start)))
        return hashed.hexdigest()

    def size(self, split: str) -> int:
        """Number of images. Raises SkiptuneError for an unknown split."""
        if split not in SPLITS:
            raise SkiptuneError(f"{self.name} has no split {split!r}; choose one of {', '.join(SPLITS)}")
        return self._count

    def batch(self, seeds: Sequence[int] | range, split: str) -> tuple[Tensor, Tensor]:
        """Images uint8 [N, C, H, W] and labels 0 [N]. Raises SkiptuneError: unknown split, damaged file."""
        size = self.size(split)
        channels, height, width = self.image_shape
        chosen = np.array([int(seed) % size for seed in seeds], dtype=np.int64)
        pixels = np.empty((len(chosen), self._row), dtype=np.uint8)
        # Runs of neighbouring rows are read together.
        breaks = np.flatnonzero(np.diff(chosen) != 1) + 1
        for rows in np.split(np.arange(len(chosen)), breaks):
            if len(rows):
                content = self._read(int(chosen[rows[0]]), len(rows))
                pixels[rows] = np.frombuffer(content, dtype=np.uint8).reshape(len(rows), self._row)
        images = torch.from_numpy(pixels).view(-1, height, width, channels)
        return images.permute(0, 3, 1, 2).contiguous(), torch.zeros(len(chosen), dtype=torch.int64)

    def _read(self, first: int, count: int) -> bytes:
        try:
            self._file = self._file or self._archive.open(self._member)
            self._file.seek(self._start + first * self._row)
            content = self._file.read(count * self._row)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise SkiptuneError(f"{self.path} is damaged ({error}): get it again") from error
        if len(content) != count * self._row:
            raise SkiptuneError(f"{self.path} is damaged (it ends too early): get it again")
        return content

    def _header(self, member: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
        """Shape, Fortran order, dtype and the place where the data begin."""
        with self._archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"array format {version}")
            read = np.lib.format.read_array_header_1_0
            header = (read if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
            return *header, file.tell()
