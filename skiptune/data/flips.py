"""Horizontal flips for training, decided by the seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

if TYPE_CHECKING:
    from skiptune.data import Dataset


class Flipped:
    """A data set whose split `train` is mirrored left to right for half of the seeds (as ermongroup/ddim).

    The other splits are untouched. A finite set shows an image again under another seed, so over the
    epochs it is seen in both forms.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.name = dataset, dataset.name
        self.image_shape, self.num_classes = dataset.image_shape, dataset.num_classes

    @property
    def digest(self) -> str:
        """Of the data set and that it is flipped."""
        return hashlib.sha256(f"{self.dataset.digest} flipped".encode()).hexdigest()

    def size(self, split: str) -> int:
        """Number of images before flipping (SkiptuneError: unknown split)."""
        return self.dataset.size(split)

    def batch(self, seeds: Sequence[int] | range, split: str) -> tuple[Tensor, Tensor]:
        """As the data set's, mirrored where `flips` says so (SkiptuneError: unknown split)."""
        images, labels = self.dataset.batch(seeds, split)
        if split != "train":
            return images, labels
        mirrored = torch.from_numpy(flips(seeds))[:, None, None, None]
        return torch.where(mirrored, images.flip(-1), images), labels


def flips(seeds: Sequence[int] | range) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """A fair coin [N] per seed >= 0: the highest bit of splitmix64 (Steele et al. 2014)."""
    if len(seeds) and min(seeds) < 0:
        raise SkiptuneError(f"seed {min(seeds)} is negative; use 0 and above")
    x = np.array(seeds, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(63) == 1
