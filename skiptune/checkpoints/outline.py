"""What a model makes and takes, from its description: no weights are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from skiptune.checkpoints.building.assemble import build_empty
from skiptune.checkpoints.models import ModelRef
from skiptune.runtime.files import read_json


@dataclass(frozen=True)
class Outline:
    """Of a model; None is what its description does not say.

    Attributes:
        images: ``(C, H, W)`` of what it makes; of a latent model what its autoencoder makes.
        classes: 0 for an unconditional network.
        text: whether it takes prompts.
    """

    images: tuple[int, int, int] | None
    classes: int | None
    text: bool | None


def outline_of(model: ModelRef) -> Outline:
    """The outline of a model. Raises SkiptuneError as ``build_empty``."""
    if model.kind != "diffusers":
        return _described(model.description)
    index = model.path / "model_index.json"
    return Outline(None, None, "text_encoder" in read_json(index) if index.is_file() else None)


@lru_cache(maxsize=64)
def _described(description: str) -> Outline:
    values = json.loads(description)
    if values.get("class") == "TextToImage":  # not built: that would import diffusers, which takes seconds
        return Outline(None, 0, True)
    denoiser = build_empty(values)
    maker = getattr(denoiser, "autoencoder", denoiser)
    return Outline(tuple(maker.image_shape), denoiser.num_classes, False)
