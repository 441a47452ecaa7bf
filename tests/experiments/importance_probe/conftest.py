"""The desk's text-to-image roles played by tiny networks with weights of no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from experiments.scale import Role, Scale
from experiments.tables.config import RowConfig
from skiptune.checkpoints.desk import save_desk_denoiser
from skiptune.denoisers import build_denoiser

DDIM = {"name": "ddim", "steps": 2, "spacing": "trailing", "end": "first"}
WORDS = ["a", "red", "letter", "K", "on", "white", "bold", "the"]
DEAD = 0  # the number of a block whose transformer adds nothing to its input
NETWORK: dict[str, Any] = {
    "class": "TextToImage",
    "kwargs": {
        "unet": {
            "sample_size": 16,
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": [8, 8, 16],
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            "layers_per_block": 1,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
            "cross_attention_dim": 8,
        },
        "encoder": {"words": WORDS, "layers": 1, "heads": 2, "length": 16},
        "image_shape": [3, 16, 16],
        "schedule": {"kind": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    },
}


@pytest.fixture(scope="session")
def small(scales: dict[str, Scale], tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """The desk scale with the role ``sd_turbo``, five blocks, one dead, and two prompts a category."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    denoiser = build_denoiser(NETWORK)
    for name, parameter in denoiser.named_parameters():
        if "attentions" in name and parameter.dim() > 1:
            parameter.data.mul_(3)  # a fresh transformer adds next to nothing to its input
        if "down_blocks.0.attentions" in name and "proj_out" in name:
            parameter.data.zero_()
    save_desk_denoiser("tiny", NETWORK, denoiser.state_dict(), {}, folder)
    desk = scales["desk"]
    role = desk.role("sd_turbo")
    model = {"name": "tiny", "kind": "trained", "dataset": "prompted_glyphs", "denoiser": NETWORK}
    model |= {"file": "tiny.safetensors", "gflop_per_nfe": 1.0}
    tiny = Role(model=model, features=role.features, scorer=role.scorer)
    return replace(desk, roles={"sd_turbo": tiny}, checkpoints=folder, prompts={**desk.prompts, "count": 2})


@pytest.fixture
def row() -> Callable[..., RowConfig]:
    """`row(measure, intervention)`, two steps."""

    def row(measure: dict[str, Any], intervention: dict[str, Any] | None = None) -> RowConfig:
        acting = intervention or {"name": "none"}
        return RowConfig("id", "label", "arm", "sd_turbo", measure, DDIM, acting, ("desk",), (), None, {}, {})

    return row
