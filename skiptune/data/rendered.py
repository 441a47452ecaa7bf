"""A data set rendered ahead: equal images and labels, read from files that several processes have drawn."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skiptune.data import Dataset, load_dataset, with_prompts
from skiptune.errors import SkiptuneError

CHUNK = 4096


class Rendered:
    """A data set of which the first images of some splits lie in ``folder``; others are made when asked for.

    Raises:
        SkiptuneError: when a file is damaged or of other images than the data set's.
    """

    def __init__(self, dataset: Dataset, folder: Path):
        self.dataset, self.folder, self.name = dataset, folder, dataset.name
        self.image_shape, self.num_classes = dataset.image_shape, dataset.num_classes

    @property
    def digest(self) -> str:
        return self.dataset.digest

    def size(self, split: str) -> int:
        return self.dataset.size(split)

    def prompts_of(self, labels: Tensor) -> list[str]:
        """As the data set's. Raises SkiptuneError if it has no prompts."""
        return with_prompts(self.dataset).prompts_of(labels)

    @cached_property
    def files(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Images and labels by split, mapped from the files."""
        found = {}
        for path in sorted(self.folder.glob(f"{stem(self.dataset, '*')}.images.npy")):
            labels = path.with_name(path.name.replace(".images.npy", ".labels.npy"))
            try:
                pair = np.load(path, mmap_mode="r"), np.load(labels, mmap_mode="r")
            except (OSError, ValueError) as error:
                raise SkiptuneError(f"{path} is damaged ({error}); delete it") from error
            found[path.name.removesuffix(".images.npy").rpartition("-")[2]] = pair
        return found

    def batch(self, seeds: Sequence[int] | range, split: str) -> tuple[Tensor, Tensor]:
        """As the data set's, with equal bits."""
        images, labels = self.files.get(split, (None, None))
        if images is None or labels is None or len(seeds) == 0:
            return self.dataset.batch(seeds, split)
        if min(seeds) < 0 or max(seeds) >= len(images):
            return self.dataset.batch(seeds, split)
        whole = isinstance(seeds, range) and seeds.step == 1
        rows = slice(seeds[0], seeds[-1] + 1) if whole else np.asarray(seeds)
        return torch.from_numpy(np.array(images[rows])), torch.from_numpy(np.array(labels[rows]))


def stem(dataset: Dataset, split: str) -> str:
    """Beginning of the names of a split's files."""
    return f"{dataset.name}-{dataset.digest[:12]}-{split}"


def render_ahead(name: str, split: str, count: int, folder: Path, workers: int) -> Path:
    """Draw the first ``count`` images of a split, unless they are there; returns the file of the images.

    Args:
        name: of the data set.
        workers: processes that draw.

    Raises:
        SkiptuneError: an unknown data set or split, or the folder cannot be written.
    """
    dataset = load_dataset(name)
    count = min(count, dataset.size(split))
    images, labels = (folder / f"{stem(dataset, split)}.{kind}.npy" for kind in ("images", "labels"))
    if labels.is_file() and len(np.load(labels, mmap_mode="r")) >= count:
        return images
    parts = [path.with_suffix(f".{os.getpid()}.part") for path in (images, labels)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        create(parts[0], (count, *dataset.image_shape), np.uint8)
        create(parts[1], (count,), np.int64)
        starts = range(0, count, CHUNK)
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(fill, name, split, start, *parts) for start in starts]
            for job in jobs:
                job.result()
        for part, path in zip(parts, (images, labels), strict=True):
            os.replace(part, path)
    except OSError as error:
        raise SkiptuneError(f"cannot render into {folder} ({error.strerror}); free some space") from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return images


def create(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    """An npy file whose values are yet to be written."""
    np.lib.format.open_memmap(path, "w+", dtype, shape).flush()


def fill(name: str, split: str, start: int, images: Path, labels: Path) -> None:
    """Write one chunk, in a process of its own."""
    torch.set_num_threads(1)
    kept = np.load(images, mmap_mode="r+"), np.load(labels, mmap_mode="r+")
    end = min(start + CHUNK, len(kept[1]))
    for file, values in zip(kept, load_dataset(name).batch(range(start, end), split), strict=True):
        file[start:end] = values.numpy()
        file.flush()
