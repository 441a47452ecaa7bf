"""Roles of S2-DM's tables played by small networks with weights of no training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.scale import Role, Scale
from experiments.tables.config import RowConfig
from skiptune.checkpoints.desk import save_desk_denoiser
from skiptune.denoisers import build_denoiser

NETWORK: dict[str, Any] = {
    "class": "DiscreteDenoiser",
    "kwargs": {
        "network": {
            "class": "DDIMUNet",
            "kwargs": {
                "type": "simple",
                "in_channels": 1,
                "out_ch": 1,
                "ch": 32,
                "ch_mult": [1],
                "num_res_blocks": 1,
                "attn_resolutions": [],
                "dropout": 0.1,
                "resamp_with_conv": True,
                "image_size": 8,
                "num_diffusion_timesteps": 1000,
            },
        },
        "image_shape": [1, 8, 8],
        "schedule": {"kind": "linear", "beta_start": 0.0001, "beta_end": 0.02, "num_timesteps": 1000},
    },
}
SETTINGS = {"images": 640, "batch": 64, "precision": "bf16"}
CURVE = [[64, 9.0], [128, 5.0], [192, 4.0], [256, 3.0], [640, 2.0]]


@pytest.fixture(scope="session")
def small(scales: dict[str, Scale], tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """The desk scale with roles ``ddim1_celeba`` (three trainings) and ``s2dm_skip10_celeba`` (one)."""
    folder = tmp_path_factory.mktemp("checkpoints")
    features = scales["desk"].role("unconditional_edm").features
    roles = {}
    for seed, (name, suffixes) in enumerate(
        {"ddim1": ("", "_seed1", "_seed2"), "s2dm_skip10": ("",)}.items()
    ):
        torch.manual_seed(seed)
        denoiser = build_denoiser(NETWORK)
        for suffix in suffixes:
            record = {"settings": SETTINGS, "loss_curve": CURVE}
            save_desk_denoiser(f"{name}{suffix}", NETWORK, denoiser.state_dict(), record, folder)
        model = {"name": name, "kind": "trained", "dataset": "digits", "denoiser": NETWORK}
        model |= {"file": f"{name}.safetensors", "gflop_per_nfe": 1.0}
        roles[f"{name}_celeba"] = Role(model=model, features=features, suffixes=suffixes)
    return replace(scales["desk"], roles=roles, checkpoints=folder)


@pytest.fixture
def row() -> Callable[..., RowConfig]:
    """`row(measure, role, sampler)`."""

    def row(
        measure: dict[str, Any], role: str = "ddim1_celeba", sampler: dict[str, Any] | None = None
    ) -> RowConfig:
        return RowConfig("id", "label", "arm", role, measure, sampler or {}, {}, ("desk",), (), None, {}, {})

    return row


def changed(path: Path, **changes: Any) -> dict[str, Any]:
    """The record in a file with other values."""
    record: dict[str, Any] = {**json.loads(path.read_text()), **changes}
    return record
