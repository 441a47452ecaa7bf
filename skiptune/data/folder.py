"""Data sets of picture files: any folder or zip, and the zips that EDM's dataset_tool writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from skiptune.data.pictures import Pictures
from skiptune.errors import SkiptuneError

SPLITS = ("train", "reference")  # the papers compare with the training set
LABELS = "dataset.json"


class FolderImages:
    """RGB pictures uint8 [N, 3, H, W] of a folder or zip, all of one size, in the order of their names.

    Labels come from `dataset.json` as EDM's dataset_tool writes it, {"labels": [[name, class], ...]}, or,
    with `class_folders`, from the first folder of each name where all pictures lie in folders (sorted folders
    are classes 0, 1, ...). Without either there are no classes (`num_classes` 0) and every label is 0. Splits
    `train` and `reference` are both all images; a seed names image `seed mod size`. Raises SkiptuneError if
    there are no pictures or the labels make no sense.
    """

    def __init__(self, path: Path, name: str | None = None, class_folders: bool = False) -> None:
        self.name = name or str(path)
        self.pictures = Pictures(path)
        channels, height, width = self.pictures.image(0).shape
        self.image_shape = (channels, height, width)
        self._labels = _labels(self.pictures, class_folders)
        self.num_classes = 0 if self._labels is None else int(self._labels.max()) + 1

    @cached_property
    def digest(self) -> str:
        """That of the picture files; where there are labels, together with these."""
        if self._labels is None:
            return self.pictures.digest
        return hashlib.sha256(self.pictures.digest.encode() + self._labels.numpy().tobytes()).hexdigest()

    def size(self, split: str) -> int:
        """Number of pictures. Raises SkiptuneError for an unknown split."""
        if split not in SPLITS:
            raise SkiptuneError(f"{self.name} has no split {split!r}; choose one of {', '.join(SPLITS)}")
        return len(self.pictures)

    def batch(self, seeds: Sequence[int] | range, split: str) -> tuple[Tensor, Tensor]:
        """Images uint8 [N, 3, H, W] and labels int64 [N] of the seeds.

        Raises:
            SkiptuneError: unknown split, an unreadable picture, or one of another size.
        """
        size = self.size(split)
        chosen = [int(seed) % size for seed in seeds]
        images = torch.empty(len(chosen), *self.image_shape, dtype=torch.uint8)
        for row, i in enumerate(chosen):
            image = self.pictures.image(i)
            if tuple(image.shape) != self.image_shape:
                where = f"{self.pictures.path}/{self.pictures.names[i]}"
                raise SkiptuneError(
                    f"{where} is {list(image.shape)}, the first picture {list(self.image_shape)}: "
                    "all must be alike"
                )
            images[row] = image
        labels = torch.zeros(len(chosen), dtype=torch.int64) if self._labels is None else self._labels[chosen]
        return images, labels


def _labels(pictures: Pictures, class_folders: bool) -> Tensor | None:
    """int64 [N], or None without classes."""
    if pictures.has(LABELS):
        listed = _listed_labels(pictures)
        if listed is not None:
            return listed
    if not class_folders or any("/" not in name for name in pictures.names):
        return None
    folders = [name.split("/")[0] for name in pictures.names]
    classes = {folder: i for i, folder in enumerate(sorted(set(folders)))}
    return torch.tensor([classes[folder] for folder in folders])


def _listed_labels(pictures: Pictures) -> Tensor | None:
    """Labels of `dataset.json`; None where it holds none. Raises SkiptuneError for any other content."""
    where = f"{LABELS} of {pictures.path}"
    try:
        listed = json.loads(pictures.read(LABELS))["labels"]
        if listed is None:
            return None
        by_name: Mapping[str, int] = {name.replace("\\", "/"): label for name, label in listed}
        labels = [by_name[name] for name in pictures.names]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SkiptuneError(
            f'{where} is not {{"labels": [[name, class], ...]}} of every picture ({reason})'
        ) from error
    if not all(type(label) is int and 0 <= label < 2**31 for label in labels):
        raise SkiptuneError(f"the labels in {where} are not class numbers: 0, 1, 2, ...")
    return torch.tensor(labels)
