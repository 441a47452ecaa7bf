"""Files in the exact layout of every official system, small, written and loaded back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skiptune.checkpoints.building.assemble import build_empty, innermost
from skiptune.checkpoints.building.convert import convert
from skiptune.checkpoints.building.load import Checkpoint, load_checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parent))

from official_files import DESCRIPTIONS, TOLD_BY_THE_FILE, write  # noqa: E402


def check(loaded: Checkpoint, held: dict[str, Tensor], autoencoder: dict[str, Tensor]) -> None:
    """Exactly these tensors, everything in its place and ready to sample."""
    equal(innermost(loaded.denoiser), held)
    if autoencoder:
        equal(loaded.denoiser.get_submodule("autoencoder"), autoencoder)
    denoiser = loaded.denoiser
    assert not denoiser.training and not any(p.requires_grad for p in denoiser.parameters())
    for module in denoiser.modules():  # schedules and filters may be plain attributes
        assert not [
            name for name, value in vars(module).items() if isinstance(value, Tensor) and value.is_meta
        ]
    condition = torch.eye(denoiser.num_classes)[:2] if denoiser.num_classes else None
    with torch.no_grad():
        x0 = denoiser(torch.randn(2, *denoiser.image_shape), torch.tensor(1.0), condition)
    assert x0.shape == (2, *denoiser.image_shape)


def equal(module: nn.Module, expected: dict[str, Tensor]) -> None:
    state = module.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype and torch.equal(state[name], value), name


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_round_trip(case: str, tmp_path: Path) -> None:
    path, second, held, autoencoder = write(case, tmp_path)
    loaded = load_checkpoint(path, DESCRIPTIONS[case], second)
    check(loaded, held, autoencoder)
    assert loaded.assumed == () and loaded.description == DESCRIPTIONS[case]


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_round_trip_without_description_and_through_conversion(case: str, tmp_path: Path) -> None:
    path, second, held, autoencoder = write(case, tmp_path)
    loaded = load_checkpoint(path, autoencoder_path=second)
    check(loaded, held, autoencoder)
    assert bool(loaded.assumed) == (case not in TOLD_BY_THE_FILE)
    told, given = (shapes(description) for description in (loaded.description, DESCRIPTIONS[case]))
    assert told == given
    target = tmp_path / "converted.safetensors"
    convert(loaded, target)
    again = load_checkpoint(target)
    check(again, held, autoencoder)
    assert (again.description, again.assumed) == (loaded.description, loaded.assumed)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def shapes(description: dict[str, Any]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in build_empty(description).state_dict().items()}
