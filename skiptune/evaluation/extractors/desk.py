"""The desk classifiers as extractors; their weights ship with the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from skiptune.errors import SkiptuneError
from skiptune.evaluation.classifiers import ARCHITECTURES
from skiptune.evaluation.extractors.base import FeatureExtractor
from skiptune.runtime.files import file_digest, read_json

DESK_EXTRACTORS = tuple(f"{data}_{net}" for data in ("glyphs", "digits") for net in ("cnn", "resnet", "vit"))
MICRO_BATCH = 256


def load_desk_extractor(
    name: str, folder: Path, device: str | torch.device = "cpu", micro_batch: int = MICRO_BATCH
) -> FeatureExtractor:
    """The extractor of `<folder>/<name>.safetensors`, checked against the sha256 in `<name>.json`.

    The network is built from the header {"architecture", "kwargs" (JSON)}; nothing is unpickled.
    Raises SkiptuneError if a file is missing, damaged or does not match its record.
    """
    weights, digest = desk_weights(name, folder)
    try:
        with safe_open(weights, framework="pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a mapping)
        kwargs: dict[str, Any] = json.loads(header["kwargs"])
        network = ARCHITECTURES[header["architecture"]](**kwargs)
        network.load_state_dict(state)
        shape = _image_shape(kwargs)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SkiptuneError(f"{weights} holds no desk classifier ({reason}): train it again") from error
    return FeatureExtractor(network, name, digest, shape, micro_batch, device)


def desk_image_shape(name: str, folder: Path) -> tuple[int, int, int]:
    """Of the images that an extractor takes, from its training record. Raises SkiptuneError."""
    record = folder / f"{name}.json"
    try:
        return _image_shape(read_json(record)["kwargs"])
    except (KeyError, TypeError, ValueError) as error:
        raise SkiptuneError(f"{record} is no training record: restore it or train again") from error


def _image_shape(kwargs: dict[str, Any]) -> tuple[int, int, int]:
    return int(kwargs["in_channels"]), int(kwargs["resolution"]), int(kwargs["resolution"])


def desk_weights(name: str, folder: Path) -> tuple[Path, str]:
    """The weights' file and its sha256, which is that of the record. Raises SkiptuneError."""
    weights, record = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not (weights.is_file() and record.is_file()):
        known = sorted(path.stem for path in folder.glob("*_*.safetensors") if path.stem in DESK_EXTRACTORS)
        raise SkiptuneError(f"no extractor '{name}' in {folder}: there are {', '.join(known) or 'none'}")
    digest = file_digest(weights)
    expected = read_json(record)
    if not isinstance(expected, dict):
        raise SkiptuneError(f"{record} is no training record: restore it or train again")
    if digest != expected.get("sha256"):
        raise SkiptuneError(f"{weights} does not match the sha256 in {record.name}: restore both together")
    return weights, digest
