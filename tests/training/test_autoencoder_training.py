from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from skiptune.checkpoints.desk import load_desk_autoencoder
from skiptune.data import load_dataset
from skiptune.data.images import from_uint8
from skiptune.errors import SkiptuneError
from skiptune.training.autoencoder import (
    AutoencoderTraining,
    reconstruction_quality,
    train_and_save_autoencoder,
    train_autoencoder,
)

SMALL: dict[str, Any] = {
    "class": "KLAutoencoder",
    "kwargs": {
        "embed_dim": 2,
        "ddconfig": {
            "double_z": True,
            "z_channels": 2,
            "resolution": 8,
            "in_channels": 1,
            "out_ch": 1,
            "ch": 32,
            "ch_mult": [1, 1],
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "attn_type": "none",
        },
    },
}


def small(**changes: Any) -> AutoencoderTraining:
    values: dict[str, Any] = {"images": 1280, "batch": 32, "warmup_images": 64, "heldout_images": 100}
    return AutoencoderTraining("small", SMALL, "digits", **(values | changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[float]]:
    folder = tmp_path_factory.mktemp("autoencoder")
    losses: list[float] = []
    record = train_and_save_autoencoder(small(), folder, lambda step, total, loss: losses.append(loss))
    return folder, record, losses


def test_loss_falls_and_images_come_back(trained: tuple[Path, dict[str, Any], list[float]]) -> None:
    _, record, losses = trained
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    # A grey image that is the mean of all has 1 / PSNR the variance of the pixels.
    images = from_uint8(load_dataset("digits").batch(range(100), "heldout")[0])
    grey = 10 * float((4 / images.var()).log10())
    assert record["heldout_psnr"] > grey + 3


def test_export_is_what_the_record_measured(trained: tuple[Path, dict[str, Any], list[float]]) -> None:
    folder, record, _ = trained
    network = load_desk_autoencoder("small", folder)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    quality = reconstruction_quality(network, load_dataset("digits"), 100)  # type: ignore[arg-type]
    assert quality == {key: record[key] for key in quality}
    saved = json.loads((folder / "small.json").read_text())
    assert saved["heldout_psnr"] == record["heldout_psnr"]
    assert saved["settings"]["autoencoder"] == SMALL


def test_equal_settings_give_equal_weights_and_scale_gives_unit_latents() -> None:
    first, second = (train_autoencoder(small(images=128)) for _ in range(2))
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name])
    images = from_uint8(load_dataset("digits").batch(range(100), "heldout")[0])
    assert float((first.scale * first.network.encode(images)).std()) == pytest.approx(1, rel=1e-5)
    other = train_autoencoder(small(images=128, seed=1))
    assert other.record["heldout_psnr"] != first.record["heldout_psnr"]


def test_what_cannot_be_trained_is_refused() -> None:
    vq: dict[str, Any] = {"class": "VQAutoencoder", "kwargs": {**SMALL["kwargs"], "n_embed": 4}}
    vq["kwargs"]["ddconfig"] = {**SMALL["kwargs"]["ddconfig"], "double_z": False}
    for settings, message in (
        ({"autoencoder": vq}, "VQAutoencoder has no posterior"),
        ({"dataset": "glyphs"}, "takes images .*1, 8, 8.*glyphs has .*3, 16, 16"),
    ):
        values: dict[str, Any] = {
            "autoencoder": SMALL,
            "dataset": "digits",
            "images": 64,
            "batch": 32,
        } | settings
        with pytest.raises(SkiptuneError, match=message):
            train_autoencoder(AutoencoderTraining("bad", **values))
    with pytest.raises(SkiptuneError, match="no step in 8 images in batches of 32"):
        small(images=8)
    with pytest.raises(SkiptuneError, match="precision 'fp8' is unknown"):
        small(precision="fp8")
