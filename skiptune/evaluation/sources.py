"""Images and features that other programs made: folders, zip files, npz arrays, published statistics."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.frechet import ReferenceStatistics
from skiptune.evaluation.metrics import Reference

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
Array = np.ndarray[Any, Any]


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an npz file by name. Raises SkiptuneError; pickled objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise SkiptuneError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, zipfile.BadZipFile, AttributeError, KeyError) as error:
        raise SkiptuneError(f"{path} is no npz file of plain arrays ({error})") from error


def read_features(path: Path) -> FeatureSet:
    """``features`` ``[N, d]`` of an npz file, with ``logits`` ``[N, K]`` and ``labels`` ``[N]`` if there.

    Raises:
        SkiptuneError: no such array, another shape, NaN or infinity.
    """
    arrays = read_arrays(path)
    if "features" not in arrays:
        raise SkiptuneError(f"{path} has no array 'features', it has {', '.join(arrays) or 'nothing'}")
    tables = {}
    for name in ("features", "logits"):
        table = np.asarray(arrays.get(name, np.zeros((len(arrays["features"]), 0))))
        if table.ndim != 2 or not np.issubdtype(table.dtype, np.floating):
            raise SkiptuneError(f"{name} of {path} is {table.dtype} {list(table.shape)}, not numbers [N, d]")
        if not np.isfinite(table).all():
            raise SkiptuneError(f"{name} of {path} contains NaN or infinity: make them again")
        tables[name] = torch.from_numpy(np.ascontiguousarray(table))
    labels = arrays.get("labels")
    return FeatureSet(
        tables["features"],
        tables["logits"],
        None if labels is None else torch.from_numpy(labels.astype(np.int64)),
    )


def read_reference(path: Path) -> Reference:
    """A reference from an npz file: ``features``, or published statistics ``mu`` and ``sigma``.

    Raises:
        SkiptuneError: neither is in it.
    """
    arrays = read_arrays(path)
    if "features" in arrays:
        return Reference.from_features(read_features(path))
    if not {"mu", "sigma"} <= arrays.keys():
        raise SkiptuneError(
            f"{path} holds neither 'features' nor 'mu' and 'sigma', but {', '.join(arrays) or 'nothing'}"
        )
    mu, sigma = (torch.from_numpy(arrays[name].astype(np.float64)) for name in ("mu", "sigma"))
    return Reference(ReferenceStatistics(mu, sigma))


def image_batches(path: Path, size: int) -> Iterator[Tensor]:
    """uint8 images ``[n, C, H, W]`` of a folder or zip of picture files (by name), or of an npz array.

    Raises:
        SkiptuneError: no pictures, an unreadable one, or pictures of different sizes.
    """
    if path.suffix == ".npz":
        arrays = [a for a in read_arrays(path).values() if a.ndim == 4 and a.dtype == np.uint8]
        if not arrays:
            raise SkiptuneError(f"{path} holds no images: expected an array [N, H, W, C] of uint8")
        yield from torch.from_numpy(arrays[0]).permute(0, 3, 1, 2).split(size)
        return
    files = list(pictures(path))
    if not files:
        raise SkiptuneError(f"{path} holds no pictures ({', '.join(PICTURES)})")
    shape: tuple[int, ...] | None = None
    for start in range(0, len(files), size):
        batch = [picture(name, read()) for name, read in files[start : start + size]]
        for (name, _), image in zip(files[start : start + size], batch, strict=True):
            shape = shape or tuple(image.shape)
            if tuple(image.shape) != shape:
                raise SkiptuneError(
                    f"{name} is {list(image.shape)}, the pictures before it {list(shape)}: all must be alike"
                )
        yield torch.stack(batch)


def pictures(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and reader of every picture file, in the order of the names, folders inside included."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in PICTURES:
                yield str(file), file.read_bytes
    elif path.is_file() and zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        for name in sorted(archive.namelist()):
            if Path(name).suffix.lower() in PICTURES:
                yield f"{path}:{name}", lambda name=name: archive.read(name)  # type: ignore[misc]
    else:
        raise SkiptuneError(f"{path} is no folder, zip or npz file of images")


def picture(name: str, content: bytes) -> Tensor:
    """uint8 ``[3, H, W]``; grey pictures get three equal channels. Raises SkiptuneError."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise SkiptuneError(f"{name} is no readable picture ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
