"""The outline of a model from its description is what the loaded network says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.checkpoints.models import ModelRef
from skiptune.checkpoints.outline import Outline, outline_of
from skiptune.denoisers.latent import LatentDenoiser


@pytest.mark.parametrize("name", ["edm_glyphs", "edm_digits_uncond", "ddim1_digits", "ldm_glyphs"])
def test_as_the_loaded_network(name: str) -> None:
    loaded = load_desk_denoiser(name)
    denoiser = loaded.denoiser
    x = torch.zeros(1, *denoiser.image_shape)
    images = denoiser.decode(x) if isinstance(denoiser, LatentDenoiser) else x
    found = outline_of(ModelRef(name, "desk", json.dumps(loaded.description), Path("absent"), ""))
    assert found == Outline(tuple(images.shape[1:]), denoiser.num_classes, False)


@pytest.mark.parametrize(
    ("index", "text"), [({"text_encoder": []}, True), ({"unet": []}, False), (None, None)]
)
def test_a_pipeline_says_whether_it_takes_text(
    tmp_path: Path, index: dict[str, list[str]] | None, text: bool | None
) -> None:
    if index is not None:
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert outline_of(ModelRef("pipeline", "diffusers", "{}", tmp_path, "")) == Outline(None, None, text)
