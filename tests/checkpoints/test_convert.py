"""The files that ``convert`` writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from skiptune.checkpoints.building.convert import convert
from skiptune.checkpoints.building.load import load_checkpoint
from skiptune.errors import SkiptuneError

sys.path.insert(0, str(Path(__file__).resolve().parent))

from official_files import write  # noqa: E402


def test_other_names_and_places_are_refused(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write("DDIM", tmp_path)[0])
    with pytest.raises(SkiptuneError, match="must be named .safetensors"):
        convert(checkpoint, tmp_path / "network.pt")
    (tmp_path / "file").write_text("")
    with pytest.raises(SkiptuneError, match="cannot write"):
        convert(checkpoint, tmp_path / "file" / "network.safetensors")
    assert not list(tmp_path.glob("**/.*"))


def test_the_file_is_read_by_the_safetensors_library(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write("EDM2Precond", tmp_path)[0])
    convert(checkpoint, tmp_path / "network.safetensors")
    read, state = load_file(tmp_path / "network.safetensors"), checkpoint.denoiser.state_dict()
    assert read.keys() == state.keys()
    assert all(read[name].dtype == torch.float16 for name in read)
    assert all(torch.equal(read[name], value) for name, value in state.items())
