from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_training import small

from skiptune.errors import SkiptuneError
from skiptune.training.checkpoint import append_log, read_log, saved_steps, write_log
from skiptune.training.loop import train


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train(small(images=32), tmp_path)
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(
        SkiptuneError, match="cannot continue from .*; delete the file to train from the"
    ) as error:
        train(small(), folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kept", [0, 5, 200, 5000, -1])
def test_truncated_checkpoint_is_refused(folder: Path, kept: int) -> None:
    path = folder / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert str(path) in refused(folder)
    assert saved_steps(path) == 0


def test_foreign_checkpoints_are_refused(folder: Path) -> None:
    path = folder / "checkpoint.safetensors"
    tensors = load_file(path)
    save_file(tensors, path)
    refused(folder)  # no progress in it
    metadata = {"step": "4", "seconds": "1.0", "recent": "[]"}
    save_file(tensors | {"weight/model.more": torch.zeros(1)}, path, metadata)
    assert "another network" in refused(folder)
    name = next(name for name in tensors if name.startswith("weight/"))
    save_file({**tensors, name: torch.zeros(1, 2, 3, 4, 5)}, path, metadata)
    refused(folder)
    save_file({key: tensor for key, tensor in tensors.items() if key != "generator"}, path, metadata)
    refused(folder)
    save_file(tensors, path, metadata)
    assert train(small(images=64), folder).curve[-1]["images"] == 64


def test_checkpoint_knows_its_steps(folder: Path) -> None:
    assert saved_steps(folder / "checkpoint.safetensors") == 4
    assert saved_steps(folder / "none.safetensors") == 0


def test_log_round_trip(tmp_path: Path) -> None:
    log = tmp_path / "loss.jsonl"
    assert read_log(log) == []
    rows = [{"images": 16, "loss": 0.1}, {"images": 32, "loss": 1 / 3}]
    write_log(log, rows[:1])
    append_log(log, rows[1])
    assert read_log(log) == rows
    log.write_bytes(log.read_bytes()[:-3])
    assert read_log(log) == rows[:1]
    with pytest.raises(SkiptuneError, match="cannot write"):
        append_log(tmp_path / "missing/loss.jsonl", rows[0])
