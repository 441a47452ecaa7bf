"""Roles of S2-DM's tables played by small networks with weights of no training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from s2dm_records import CURVE, NETWORK, SETTINGS

from experiments.scale import Role, Scale
from experiments.tables.config import RowConfig
from skiptune.checkpoints.desk import save_desk_denoiser
from skiptune.denoisers import build_denoiser


@pytest.fixture(scope="session")
def small(scales: dict[str, Scale], tmp_path_factory: pytest.TempPathFactory) -> Scale:
    """The desk scale with roles ``ddim1_celeba`` and ``s2dm_skip10_celeba``, three trainings each."""
    folder = tmp_path_factory.mktemp("checkpoints")
    features = scales["desk"].role("unconditional_edm").features
    roles = {}
    suffixes = ("", "_seed1", "_seed2")
    for seed, name in enumerate(("ddim1", "s2dm_skip10")):
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
