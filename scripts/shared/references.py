"""What samples are compared with: a published reference, a file, or the images of the model's data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.config_files import choice, choice_names
from experiments.references import RealImages, ReferenceFile, default_reference_images
from skiptune.data import DATASETS, load_dataset
from skiptune.errors import SkiptuneError
from skiptune.runtime.sampling import SamplingSettings


def check_measurable(config: dict[str, Any]) -> None:
    """Raises SkiptuneError for a model without data, and no reference in their place.

    Said before its files are asked for: those of text-to-image models are large, and do not help here.
    """
    model = config["model"]
    if config["reference"] is None and model.get("dataset", "none") == "none":
        raise SkiptuneError(
            f"{model['name']} has no data set of its own: of a model of prompts make the images with "
            "scripts/sample.py and measure the folder with scripts/evaluate.py, or make a table of "
            "importance_probe with scripts/reproduce.py; of another give a reference=FILE"
        )


def reference_of(config: dict[str, Any], settings: SamplingSettings) -> RealImages | ReferenceFile:
    """The ``reference`` of a resolved configuration: a file, by place or by its name in configs/checkpoint.

    Null stands for the real images of the model's data, as many as ``reference_images`` says.

    Raises:
        SkiptuneError: it is not there, or not what it should be.
    """
    if config["reference"] is not None:
        path = Path(published(str(config["reference"]), Path(str(config["checkpoints"]))))
        return ReferenceFile(
            path, "give a file, a name such as fid_imagenet64, or null: the images of the model's data"
        )
    dataset = config["model"]["dataset"]
    try:
        load_dataset(dataset)
    except SkiptuneError as error:
        raise SkiptuneError(f"{error}; or give a reference=FILE, or a name such as fid_imagenet64") from error
    images = config["reference_images"]
    count = default_reference_images(dataset) if images == "auto" else images
    return RealImages(dataset, count, settings.features, settings.device)


def published(name: str, checkpoints: Path) -> str:
    """The file of a reference in configs/checkpoint; another name as it is. Raises SkiptuneError."""
    if Path(name).exists() or name in DATASETS or name not in choice_names("checkpoint"):
        return name
    official = choice("checkpoint", name)
    if official["role"] != "reference":
        raise SkiptuneError(f"{name} is no reference, it is a {official['role']}")
    if not (file := checkpoints / official["file"]).is_file():
        raise SkiptuneError(f"{file} is missing, get it with: python scripts/download.py {name}")
    return str(file)
