"""What a place given by name holds: images to be looked at, or a file of ready arrays."""

from __future__ import annotations

from pathlib import Path

from skiptune.data import DATASETS
from skiptune.errors import SkiptuneError
from skiptune.evaluation.sources.images import ImageSource

Place = str | Path
Given = Path | ImageSource


def given_sample(features: Place | None, generated: Place | None, data: Path, class_folders: bool) -> Given:
    """The file of features, or the images. Raises SkiptuneError unless one of the two is given, and there."""
    place = _one("features", features, "generated", generated)
    if not Path(place).exists():
        return _data_set(place, generated, data, class_folders)
    return Path(place) if features else ImageSource(place, data, class_folders)


def given_reference(
    features: Place | None, reference: Place | None, data: Path, class_folders: bool
) -> Given:
    """As ``given_sample``; of references only a folder and a zip are images, what else exists is a file."""
    place = _one("reference_features", features, "reference", reference)
    path = Path(place)
    if not path.exists():
        return _data_set(place, reference, data, class_folders)
    pictures = reference and (path.is_dir() or path.suffix == ".zip")
    return ImageSource(place, data, class_folders) if pictures else path


def _one(arrays: str, features: Place | None, images: str, place: Place | None) -> str:
    both = [str(each) for each in (features, place) if each]
    if len(both) != 1:
        raise SkiptuneError(f"give {arrays}=FILE.npz or {images}=DIR|ZIP|NPZ, one of the two")
    return both[0]


def _data_set(place: str, images: Place | None, data: Path, class_folders: bool) -> ImageSource:
    if not images or place not in DATASETS:
        raise SkiptuneError(f"{place} does not exist")
    return ImageSource(place, data, class_folders)
