"""What a folder of the diffusers library is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from skiptune.checkpoints.building.diffusers_folder import is_diffusers_folder, report_folder
from skiptune.errors import SkiptuneError

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    unet = diffusers.UNet2DModel(
        16, 3, 3, layers_per_block=1, block_out_channels=(32, 64), norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    unet.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


def refused(folder: Path, message: str) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        report_folder(folder)
    assert "\n" not in str(caught.value)


def test_model(unet: Path) -> None:
    assert is_diffusers_folder(unet)
    lines = report_folder(unet)
    assert "class: UNet2DModel" in lines and "  block_out_channels: [32, 64]" in lines
    assert "skip connections: 4, 2 with equally many channels from both sides" in lines
    assert any(line.split()[:5] == ["0", "up_blocks.0.resnets.0", "8", "64", "64"] for line in lines)


def test_pipeline(unet: Path) -> None:
    folder = unet.parent
    (folder / "model_index.json").write_text("{}")
    (folder / "scheduler").mkdir()
    noise = {"prediction_type": "v_prediction", "beta_start": 0.00085}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(noise))
    assert is_diffusers_folder(folder)
    assert "noise: prediction_type v_prediction, beta_start 0.00085" in report_folder(folder)


def test_weights_of_another_network(unet: Path) -> None:
    path = unet / "diffusion_pytorch_model.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    refused(unet, "its weights do not fit UNet2DModel: missing: .* more; surplus: a$")
    path.write_bytes(b"broken, and long enough")
    refused(unet, "safetensors is damaged")
    path.unlink()
    refused(unet, "holds no safetensors file")


def test_other_classes(unet: Path) -> None:
    (unet / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    refused(unet, "holds a AutoencoderKL, no U-Net of diffusers")
    (unet / "config.json").write_text("{")
    refused(unet, "is damaged, not JSON")
