"""Picture files of a folder or zip: their names in order, their pixels, one digest of their contents."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from skiptune.errors import SkiptuneError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


class Pictures:
    """The pictures below a folder or in a zip, nested folders included, in the order of their relative names.

    That is the order of EDM's and EDM-2's data sets. Nothing is unpacked. Raises SkiptuneError if there are
    none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        if path.is_dir():
            found = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        elif path.is_file() and zipfile.is_zipfile(path):
            try:
                self._archive = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
                raise SkiptuneError(f"{path} is no readable zip file ({error})") from error
            found = (name for name in self._archive.namelist() if not name.endswith("/"))
        else:
            raise SkiptuneError(f"{path} is no folder or zip file of pictures")
        self.names = tuple(sorted(name for name in found if Path(name).suffix.lower() in SUFFIXES))
        if not self.names:
            raise SkiptuneError(f"{path} holds no pictures ({', '.join(SUFFIXES)})")

    def __len__(self) -> int:
        return len(self.names)

    def read(self, name: str) -> bytes:
        """The bytes of a file inside, a picture or another. Raises SkiptuneError if they cannot be read."""
        try:
            return (self.path / name).read_bytes() if self._archive is None else self._archive.read(name)
        except (
            OSError,
            KeyError,
            RuntimeError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise SkiptuneError(f"cannot read {self.path}/{name} ({reason})") from error

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        if self._archive is None:
            return (self.path / name).is_file()
        return name in self._archive.NameToInfo

    def image(self, i: int) -> Tensor:
        """uint8 [3, H, W] of picture `i`; grey ones get three equal channels. Raises SkiptuneError."""
        return decode(f"{self.path}/{self.names[i]}", self.read(self.names[i]))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over size and CRC-32 of every picture file in order: a folder and its zip have the same.

        A zip has both in its directory, and they are checked when a picture is read.
        """
        hashed = hashlib.sha256()
        for name in self.names:
            if self._archive is None:
                content = self.read(name)
                size, checksum = len(content), zlib.crc32(content)
            else:
                entry = self._archive.getinfo(name)
                size, checksum = entry.file_size, entry.CRC
            hashed.update(size.to_bytes(8, "little") + checksum.to_bytes(4, "little"))
        return hashed.hexdigest()


def decode(name: str, content: bytes) -> Tensor:
    """uint8 [3, H, W] of an encoded picture. Raises SkiptuneError, naming it, if it cannot be read."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SkiptuneError(f"{name} is no readable picture ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
