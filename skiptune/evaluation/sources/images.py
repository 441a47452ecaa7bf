"""Where images come from: a data set, a folder, a zip or an npz file, opened alike in every process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skiptune.data import DATASETS, Dataset, load_dataset
from skiptune.data.arrays import ArrayImages
from skiptune.data.folder import FolderImages
from skiptune.errors import SkiptuneError
from skiptune.evaluation.sources.arrays import NPZ

MOST = 10_000_000  # a data set that is drawn endlessly has no `all`


@dataclass(frozen=True)
class ImageSource:
    """Images by name: a small value that can be sent to workers.

    Attributes:
        place: path of a folder, zip or npz file, or the name of a data set (of which the split `reference`
            is meant); a path that exists comes first.
        root: where the files of data sets lie, see ``skiptune.data.load_dataset``.
        class_folders: the sub-folders of a folder are its classes.
    """

    place: str
    root: Path | None = None
    class_folders: bool = False

    split = "reference"

    @property
    def images(self) -> Dataset:
        """The images, opened once per process. Raises SkiptuneError if there are none."""
        return _open(self)

    def count(self, images: int | None = None) -> int:
        """How many are meant: the first `images`, or all. Raises SkiptuneError if there are fewer."""
        size = self.images.size(self.split)
        if images is None:
            if size > MOST:
                raise SkiptuneError(f"data set {self.place} has no end: say how many images are meant")
            return size
        if type(images) is not int or images < 1:
            raise SkiptuneError(f"{images!r} images of {self.place}: use a whole number of 1 or more")
        if images > size:
            raise SkiptuneError(f"{images} images were asked for, {self.place} has {size}")
        return images

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the pixels: their digest, not their place."""
        return {"digest": self.images.digest, "split": self.split}

    def read(self, seeds: range) -> tuple[Tensor, Tensor | None]:
        """uint8 images [n, C, H, W] of the numbers that exist, and labels [n] where there are classes."""
        images, labels = self.images.batch(
            range(seeds.start, min(seeds.stop, self.images.size(self.split))), self.split
        )
        return images, labels if self.images.num_classes else None

    @property
    def names(self) -> list[str] | None:
        """Relative names without suffix of picture files, by which they pair; None for other images."""
        if not isinstance(self.images, FolderImages):
            return None
        return [str(Path(name).with_suffix("")) for name in self.images.pictures.names]


@lru_cache(maxsize=4)
def _open(source: ImageSource) -> Dataset:
    path = Path(source.place)
    if path.exists():
        if path.suffix == NPZ:
            return ArrayImages(path)
        return FolderImages(path, class_folders=source.class_folders)
    if source.place in DATASETS:
        return load_dataset(source.place, source.root)
    raise SkiptuneError(f"{path} does not exist, nor is it a data set: {', '.join(DATASETS)}")


def with_channels(images: Tensor, shape: tuple[int, int, int] | None) -> Tensor:
    """Images [N, C, H, W] with the channels of `shape` (None: 3), where that loses nothing.

    One channel becomes three equal ones, as in EDM's fid.py; three equal ones become one.
    """
    wanted = 3 if shape is None else shape[0]
    if images.shape[1] == 1 and wanted == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    if images.shape[1] == 3 and wanted == 1 and torch.equal(images, images[:, :1].expand_as(images)):
        return images[:, :1].contiguous()
    return images
