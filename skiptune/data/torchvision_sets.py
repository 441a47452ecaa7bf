"""CIFAR-10 and CelebA as torchvision reads them, prepared as the papers' official code does."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10, CelebA

from skiptune.data.pictures import decode
from skiptune.errors import SkiptuneError

SPLITS = ("train", "reference", "heldout")
CROP = (25, 57, 153, 185)  # left, upper, right, lower: 128 x 128 about (89, 121), ermongroup/ddim
CELEBA_SIZE = 64
_EXTRACTED = "img_align_celeba"


class Cifar10:
    """CIFAR-10: uint8 [N, 3, 32, 32], labels 0-9, in the order of the batches 1-5 (EDM's order).

    `train` and `reference` are the 50,000 training images, `heldout` the 10,000 test images; a seed names
    image `seed mod size`. torchvision checks the files' published MD5 before it reads them.
    """

    name = "cifar10"
    image_shape = (3, 32, 32)
    num_classes = 10

    def __init__(self, root: Path, download: bool = False) -> None:
        """`root` holds `cifar-10-batches-py`. Raises SkiptuneError if it does not and nothing is fetched."""
        parts = _torchvision(
            "CIFAR-10",
            root / CIFAR10.base_folder,
            lambda: [CIFAR10(str(root), train=train, download=download) for train in (True, False)],
        )
        named = dict(zip((True, False), parts, strict=True))
        self._images = {train: torch.from_numpy(part.data) for train, part in named.items()}
        self._labels = {train: torch.tensor(part.targets) for train, part in named.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all pixels and labels."""
        hashed = hashlib.sha256()
        for train in (True, False):
            hashed.update(self._images[train].numpy().tobytes() + self._labels[train].numpy().tobytes())
        return hashed.hexdigest()

    def size(self, split: str) -> int:
        """Number of images. Raises SkiptuneError for an unknown split."""
        return len(self._labels[_training_part(self.name, split)])

    def batch(self, seeds: Sequence[int] | range, split: str) -> tuple[Tensor, Tensor]:
        """Images uint8 [N, 3, 32, 32] and labels int64 [N] (SkiptuneError: unknown split)."""
        part = _training_part(self.name, split)
        chosen = torch.as_tensor(list(seeds), dtype=torch.int64) % self.size(split)
        return self._images[part][chosen].permute(0, 3, 1, 2).contiguous(), self._labels[part][chosen]


class CelebA64:
    """CelebA at 64 pixels, uint8 [N, 3, 64, 64], as ermongroup/ddim crops and resizes the aligned pictures.

    Rows 57-184 and columns 25-152, then Pillow's bilinear to 64. `train` and `reference` are the official
    training partition (162,770 pictures), `heldout` the test partition; no classes. A seed names image
    `seed mod size`.
    """

    name = "celeba"
    image_shape = (3, CELEBA_SIZE, CELEBA_SIZE)
    num_classes = 0

    def __init__(self, root: Path, download: bool = False) -> None:
        """`root` holds `celeba`. Raises SkiptuneError if it does not and nothing is fetched."""
        self._folder = root / CelebA.base_folder / _EXTRACTED
        train, test = _torchvision(
            "CelebA",
            root / CelebA.base_folder,
            lambda: [CelebA(str(root), split=split, download=download) for split in ("train", "test")],
        )
        self._names: dict[bool, list[str]] = {True: list(train.filename), False: list(test.filename)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over size and CRC-32 of every picture file."""
        hashed = hashlib.sha256()
        for train in (True, False):
            for name in self._names[train]:
                content = self._read(name)
                hashed.update(f"{len(content)} {zlib.crc32(content)}\n".encode())
        return hashed.hexdigest()

    def size(self, split: str) -> int:
        """Number of images. Raises SkiptuneError for an unknown split."""
        return len(self._names[_training_part(self.name, split)])

    def batch(self, seeds: Sequence[int] | range, split: str) -> tuple[Tensor, Tensor]:
        """Images uint8 [N, 3, 64, 64] and labels 0 [N] (SkiptuneError: unknown split, damaged picture)."""
        names = self._names[_training_part(self.name, split)]
        images = torch.empty(len(seeds), *self.image_shape, dtype=torch.uint8)
        for row, seed in enumerate(seeds):
            name = names[int(seed) % len(names)]
            images[row] = crop_and_resize(decode(str(self._folder / name), self._read(name)))
        return images, torch.zeros(len(images), dtype=torch.int64)

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise SkiptuneError(f"cannot read {self._folder / name} ({error.strerror})") from error


def crop_and_resize(picture: Tensor) -> Tensor:
    """uint8 [3, 218, 178] to uint8 [3, 64, 64] (ermongroup/ddim: torchvision's crop and resize on Pillow)."""
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).crop(CROP)
    resized = image.resize((CELEBA_SIZE, CELEBA_SIZE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def _torchvision(what: str, folder: Path, read: Callable[[], list[Any]]) -> list[Any]:
    """What torchvision reads. Raises SkiptuneError in one line that says where the files belong."""
    try:
        return read()
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise SkiptuneError(
            f"{what} cannot be read ({reason}): put torchvision's files into {folder}, or let torchvision "
            "fetch them with download=true"
        ) from error


def _training_part(name: str, split: str) -> bool:
    if split not in SPLITS:
        raise SkiptuneError(f"data set {name} has no split {split!r}; choose one of {', '.join(SPLITS)}")
    return split != "heldout"
