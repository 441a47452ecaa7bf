"""A latent denoiser from its loss to its file: trained on the frozen desk autoencoder, which it ships."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from skiptune.checkpoints.desk import load_desk_autoencoder, load_desk_denoiser, save_desk_denoiser
from skiptune.data import load_dataset
from skiptune.data.images import from_uint8
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.training.loop import train
from skiptune.training.settings import DenoiserTraining

CONFIG = Path(__file__).resolve().parents[2] / "configs/model/uvit_glyphs.yaml"
LOSS = {"name": "noise_prediction", "autoencoder": "autoencoder_glyphs"}


def tiny() -> dict[str, Any]:
    description: dict[str, Any] = copy.deepcopy(yaml.safe_load(CONFIG.read_text())["denoiser"])
    description["kwargs"]["network"]["kwargs"] |= {"embed_dim": 16, "depth": 3, "num_heads": 2}
    return description


def settings(**changes: Any) -> DenoiserTraining:
    values: dict[str, Any] = {
        "name": "tiny",
        "denoiser": tiny(),
        "dataset": "glyphs",
        "images": 48,
        "batch": 8,
        "warmup_images": 8,
        "decay_images": 8,
        "loss": LOSS,
        "workers": 1,
        "checkpoint_every": 2,
        "log_every": 1,
    }
    return DenoiserTraining(**(values | changes))


def test_a_latent_model_is_trained_exported_and_loaded_with_equal_bits(tmp_path: Path) -> None:
    state = train(settings(), tmp_path / "run")
    assert all(name.startswith("model.") for name in state.average)
    weights = {**state.weights, **state.average}
    save_desk_denoiser("tiny", tiny(), weights, {}, tmp_path)
    denoiser = load_desk_denoiser("tiny", tmp_path).denoiser
    assert isinstance(denoiser, LatentDenoiser)
    for name, value in denoiser.state_dict().items():
        assert torch.equal(value, weights[name].half().float()), name
    # The autoencoder in the file is the desk's, its latents are of unit size, and it decodes.
    shipped = load_desk_autoencoder("autoencoder_glyphs")
    images = from_uint8(load_dataset("glyphs").batch(range(64), "heldout")[0])
    latents = denoiser.encode(images)
    assert torch.equal(latents, denoiser.scale * shipped.encode(images))
    assert float(latents.std()) == pytest.approx(1, abs=0.05)
    assert float((denoiser.decode(latents) - images).square().mean()) < 0.01
    # The same file again from what was loaded.
    again = save_desk_denoiser("again", tiny(), denoiser.state_dict(), {}, tmp_path)
    assert again.read_bytes() == (tmp_path / "tiny.safetensors").read_bytes()


def test_an_interrupted_run_goes_on_to_the_same_losses(tmp_path: Path) -> None:
    whole = train(settings(), tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(images: int, loss: float) -> None:
        if images == 24:
            raise Stop

    with pytest.raises(Stop):
        train(settings(), tmp_path / "parts", stop)
    parts = train(settings(), tmp_path / "parts")
    assert parts.curve == whole.curve
    for name, value in whole.average.items():
        assert torch.equal(value, parts.average[name])


def test_only_the_network_is_trained(tmp_path: Path) -> None:
    state = train(settings(images=16), tmp_path / "run")
    shipped = load_desk_autoencoder("autoencoder_glyphs").state_dict()
    for name, value in shipped.items():
        assert torch.equal(state.weights[f"autoencoder.{name}"], value)


def test_the_autoencoder_must_be_named_and_fit(tmp_path: Path) -> None:
    with pytest.raises(SkiptuneError, match="needs autoencoder, the name of a desk autoencoder"):
        train(settings(loss={"name": "noise_prediction"}), tmp_path / "a")
    with pytest.raises(SkiptuneError, match="no desk model 'nothing'"):
        train(settings(loss=LOSS | {"autoencoder": "nothing"}), tmp_path / "b")
    other = tiny()
    other["autoencoder"]["kwargs"]["ddconfig"]["num_res_blocks"] = 2
    with pytest.raises(SkiptuneError, match="another autoencoder than autoencoder_glyphs"):
        train(dataclasses.replace(settings(), denoiser=other), tmp_path / "c")
