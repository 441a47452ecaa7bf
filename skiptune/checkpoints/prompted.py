"""Prompts as inputs of a loaded model, whatever it was loaded from."""

from __future__ import annotations

import json
from collections.abc import Sequence

from torch import Tensor

from skiptune.checkpoints.building.prompts import prompt_inputs
from skiptune.checkpoints.models import ModelRef
from skiptune.denoisers import Denoiser
from skiptune.denoisers.text_to_image import TextToImage
from skiptune.errors import SkiptuneError


def inputs_of_prompts(
    model: ModelRef, denoiser: Denoiser, prompts: Sequence[str | None]
) -> dict[str, Tensor]:
    """The network's inputs of each prompt, ``[N, ...]``; ``None`` is "no prompt" of guidance.

    Rows of it make a ``Prompted``: ``Prompted(denoiser, inputs, nothing, guidance)``.

    Args:
        denoiser: of ``load_model(model)``.

    Raises:
        SkiptuneError: a model that takes no prompts, or transformers is not installed.
    """
    if model.kind == "diffusers":
        return prompt_inputs(model.path, prompts, json.loads(model.description).get("latent_size"))
    if not isinstance(denoiser, TextToImage):
        raise SkiptuneError(f"model {model.name} takes no prompts; choose a text-to-image model")
    return denoiser.inputs(["" if prompt is None else prompt for prompt in prompts])
