"""What a training may write where there is a file already: asked before it starts, not after."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import read_json
from skiptune.training.autoencoder import AutoencoderTraining
from skiptune.training.checkpoint import saved_steps
from skiptune.training.classification import ClassifierTraining
from skiptune.training.contrastive import ContrastiveTraining
from skiptune.training.settings import DenoiserTraining

Training = DenoiserTraining | AutoencoderTraining | ContrastiveTraining | ClassifierTraining


def check_replaced(config: dict[str, Any], *trainings: Training) -> None:
    """Refuse to replace in ``export`` what is of other settings, unless ``replace`` says so.

    The weights that a training began with are not compared: those of a teacher that was trained again differ.

    Raises:
        SkiptuneError: weights whose record has other settings than the training of that name, or without one.
    """
    if type(config["replace"]) is not bool:
        raise SkiptuneError(f"replace is {config['replace']!r}, it must be true or false")
    for own in () if config["replace"] else trainings:
        weights = Path(str(config["export"])) / f"{own.name}.safetensors"
        record = weights.with_suffix(".json")
        if not weights.exists() and not record.exists():
            continue
        if not record.exists():
            why = "it has no record of its training"
        elif differing := differences(read_json(record), own):
            why = f"it was trained with other settings ({', '.join(differing)})"
        else:
            continue
        raise SkiptuneError(
            f"{weights} would be replaced, and {why}: give export=FOLDER to keep it, or replace=true"
        )


def differences(record: Any, own: Training) -> list[str]:
    """Names of the settings that a record has otherwise than a training."""
    wanted = json.loads(json.dumps(dataclasses.asdict(own)))
    # A record of before there was a setting does not name it: it had what is the default now.
    defaults = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in dataclasses.fields(own)
    }
    settings = record.get("settings") if isinstance(record, dict) else None
    found = {**defaults, **settings} if isinstance(settings, dict) else {}
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(found.get(name), dict):
            found[name] = {**default, **found[name]}
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def check_passed_snapshots(
    snapshots: Mapping[int, DenoiserTraining], inputs: dict[str, str], folder: Path, export: Path
) -> None:
    """Refuse to go on behind a snapshot, ``images: its settings``, that is not in ``export``.

    Raises:
        SkiptuneError: there is no such file, or it is of another training.
    """
    for images, own in snapshots.items():
        if images > saved_steps(folder / "checkpoint.safetensors") * own.batch:
            continue
        weights, record = export / f"{own.name}.safetensors", export / f"{own.name}.json"
        found = read_json(record) if weights.is_file() and record.is_file() else {}
        if (found.get("settings"), found.get("inputs")) != (dataclasses.asdict(own), inputs):
            raise SkiptuneError(
                f"{folder} is past the snapshot of {images} images, and {weights} is not what it left: "
                "export to where that is, or delete the folder to train anew"
            )
