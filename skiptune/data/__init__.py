"""Data sets behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from skiptune.errors import SkiptuneError


class Dataset(Protocol):
    """Images addressed by seed, so that every batch can be repeated."""

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    digest: str
    """Stands for the pixels: another digest, other images."""

    def batch(self, seeds: Sequence[int], split: str) -> tuple[Tensor, Tensor]:
        """uint8 images ``[N, C, H, W]`` and int64 labels ``[N]``; SkiptuneError: unknown split."""
        ...

    def size(self, split: str) -> int:
        """Number of different images in a split; SkiptuneError: unknown split."""
        ...


def load_dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        SkiptuneError: unknown name, or this machine makes other pixels than the ones the results rest on.
    """
    from skiptune.data.digits import Digits
    from skiptune.data.glyphs import verified_glyphs

    datasets: dict[str, Callable[[], Dataset]] = {"glyphs": verified_glyphs, "digits": Digits}
    if name not in datasets:
        raise SkiptuneError(f"unknown data set {name!r}; choose one of {', '.join(datasets)}")
    return datasets[name]()
