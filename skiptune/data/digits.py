"""The 1,797 real handwritten 8x8 digits that scikit-learn ships (test part of UCI's optical digits)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

SHA256 = "0b7e9c3202d7bcd255d6a19a238d3743bf5e320ba74812a6679958a017c55382"
SPLITS = ("train", "reference", "features", "heldout")


class Digits:
    """Images uint8 [N, 1, 8, 8] (values 0..16 scaled to 0..255) and labels int64 [N].

    Splits: `train` and `reference` are all images (the papers compare with the training set); `features` and
    `heldout` part them for the classifiers, every sixth image of each class being held out, so that each
    writer is in both parts. A seed names image `seed mod size(split)`.
    """

    name = "digits"
    image_shape = (1, 8, 8)
    num_classes = 10
    digest = SHA256

    def __init__(self) -> None:
        """Load the data. Raises SkiptuneError if scikit-learn ships other digits than the ones used here."""
        from sklearn.datasets import load_digits  # slow to import, and only this data set needs it

        raw = load_digits()
        images = np.round(raw.images * 255 / 16).astype(np.uint8)
        labels = raw.target.astype(np.int64)
        found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
        if found != SHA256:
            raise SkiptuneError(
                f"scikit-learn's digits have sha256 {found[:12]}, expected {SHA256[:12]}: "
                "install the scikit-learn of environment.yml"
            )
        self._images = torch.from_numpy(images)[:, None]
        self._labels = torch.from_numpy(labels)
        self._indices = _split_indices(labels)

    def size(self, split: str) -> int:
        """Number of different images in a split. Raises SkiptuneError for an unknown split."""
        return len(self._split(split))

    def batch(self, seeds: Sequence[int] | range, split: str) -> tuple[Tensor, Tensor]:
        """Images uint8 [N, 1, 8, 8] and labels int64 [N] of the seeds (SkiptuneError: unknown split)."""
        indices = self._split(split)
        chosen = indices[torch.as_tensor(list(seeds), dtype=torch.int64) % len(indices)]
        return self._images[chosen], self._labels[chosen]

    def _split(self, split: str) -> Tensor:
        if split not in self._indices:
            raise SkiptuneError(f"digits has no split '{split}': choose one of {', '.join(SPLITS)}")
        return self._indices[split]


def _split_indices(labels: np.ndarray) -> dict[str, Tensor]:
    rank = np.zeros(len(labels), dtype=np.int64)  # position of an image among those of its class
    for label in np.unique(labels):
        members = labels == label
        rank[members] = np.arange(members.sum())
    held_out = rank % 6 == 5
    everything = torch.arange(len(labels))
    return {
        "train": everything,
        "reference": everything,
        "features": everything[torch.from_numpy(~held_out)],
        "heldout": everything[torch.from_numpy(held_out)],
    }
