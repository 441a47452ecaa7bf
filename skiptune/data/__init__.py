"""Data sets behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from skiptune.data.flips import Flipped
from skiptune.data.folder import FolderImages
from skiptune.errors import SkiptuneError

DATA = Path("data")


class Dataset(Protocol):
    """Images addressed by seed, so that every batch can be repeated."""

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int

    @property
    def digest(self) -> str:
        """Stands for the pixels: another digest, other images."""
        ...

    def batch(self, seeds: Sequence[int], split: str) -> tuple[Tensor, Tensor]:
        """uint8 images ``[N, C, H, W]`` and int64 labels ``[N]``; SkiptuneError: unknown split."""
        ...

    def size(self, split: str) -> int:
        """Number of different images in a split; SkiptuneError: unknown split."""
        ...


@runtime_checkable
class PromptedDataset(Dataset, Protocol):
    """Images whose labels are the numbers of prompts, ``0 .. num_classes - 1``."""

    def prompts_of(self, labels: Tensor) -> list[str]:
        """The prompts of labels ``[N]``."""
        ...


def with_prompts(dataset: Dataset) -> PromptedDataset:
    """The data set itself. Raises SkiptuneError if its images have no prompts."""
    if not isinstance(dataset, PromptedDataset):
        raise SkiptuneError(f"the images of {dataset.name} have no prompts; use prompted_glyphs")
    return dataset


def check_dataset(name: str, root: str | Path | None = None) -> None:
    """Raises SkiptuneError for a name that no data set has; `folder` is offered where there is a root."""
    if name not in DATASETS:
        offered = [each for each in DATASETS if each != "folder" or root is not None]
        raise SkiptuneError(f"unknown data set {name!r}; choose one of {', '.join(offered)}")


def load_dataset(
    name: str, root: str | Path | None = None, *, flip: bool = False, download: bool = False
) -> Dataset:
    """The data set of that name; those of files are read once per process.

    Args:
        root: where the files lie, `data` if None; of `folder`, the folder or zip itself.
        flip: mirror half of the training images (see ``skiptune.data.flips``).
        download: let torchvision fetch CIFAR-10 or CelebA into `root` if they are not there.

    Raises:
        SkiptuneError: unknown name, missing or unreadable files, or this machine makes other pixels than the
            ones the results rest on.
    """
    check_dataset(name, root)
    dataset = DATASETS[name](None if root is None else Path(root), download)
    return Flipped(dataset) if flip else dataset


def _glyphs(root: Path | None, download: bool) -> Dataset:
    from skiptune.data.glyphs import verified_glyphs

    return verified_glyphs()


def _prompted_glyphs(root: Path | None, download: bool) -> Dataset:
    from skiptune.data.prompted_glyphs import verified_prompted_glyphs

    return verified_prompted_glyphs()


@cache
def _digits(root: Path | None, download: bool) -> Dataset:
    from skiptune.data.digits import Digits

    return Digits()


@cache
def _cifar10(root: Path | None, download: bool) -> Dataset:
    from skiptune.data.torchvision_sets import Cifar10

    return Cifar10(root or DATA, download)


@cache
def _celeba(root: Path | None, download: bool) -> Dataset:
    from skiptune.data.torchvision_sets import CelebA64

    return CelebA64(root or DATA, download)


@cache
def _folder(root: Path | None, download: bool) -> Dataset:
    if root is None:
        raise SkiptuneError("data set 'folder' needs root, its folder or zip: load_dataset('folder', root)")
    return FolderImages(root, class_folders=True)


@cache
def _edm_zip(name: str, file: str, root: Path | None, download: bool) -> Dataset:
    path = (root or DATA) / file
    if not path.exists():
        raise SkiptuneError(
            f"data set {name} is missing: make {path} with dataset_tool.py of NVlabs/edm, or name its folder"
        )
    return FolderImages(path, name)


# Name -> (root, download) -> data set; the zips have the names that EDM's documentation gives them.
DATASETS: dict[str, Callable[[Path | None, bool], Dataset]] = {
    "glyphs": _glyphs,
    "digits": _digits,
    "prompted_glyphs": _prompted_glyphs,
    "cifar10": _cifar10,
    "celeba": _celeba,
    "imagenet64": partial(_edm_zip, "imagenet64", "imagenet-64x64.zip"),
    "imagenet256": partial(_edm_zip, "imagenet256", "imagenet-256x256.zip"),
    "afhqv2": partial(_edm_zip, "afhqv2", "afhqv2-64x64.zip"),
    "ffhq": partial(_edm_zip, "ffhq", "ffhq-64x64.zip"),
    "folder": _folder,
}
