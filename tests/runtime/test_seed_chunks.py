"""Seeds come in whole chunks; a chunk is computed of its own seeds and stored under its number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.runtime.seed_chunks import CHUNK, SeedChunk, chunk_numbers, open_run, read_chunks
from skiptune.runtime.store import RunStore


@dataclass(frozen=True)
class Powers:
    """Every seed to a power."""

    power: int

    def resolved(self) -> dict[str, Any]:
        return {"kind": "powers", "power": self.power}

    def compute(self, seeds: range) -> dict[str, Tensor]:
        return {"value": torch.tensor(list(seeds), dtype=torch.float64) ** self.power}


def test_seeds_come_in_whole_chunks() -> None:
    assert list(chunk_numbers(range(500, 1250))) == [2, 3, 4]
    for seeds in (range(0, 300), range(100, 350), range(0, 0), range(-250, 0)):
        with pytest.raises(SkiptuneError, match="multiples of 250"):
            chunk_numbers(seeds)


def test_a_chunk_holds_its_own_seeds(tmp_path: Path) -> None:
    settings = Powers(2)
    run = open_run(settings, RunStore(tmp_path))
    for number in (3, 2):
        SeedChunk(run, settings, number)()
    chunks = read_chunks(run, range(500, 1000))
    assert torch.equal(
        torch.cat([chunk["value"] for chunk in chunks]), torch.arange(500, 1000, dtype=torch.float64) ** 2
    )
    assert [len(chunk["value"]) for chunk in chunks] == [CHUNK, CHUNK]
    with pytest.raises(SkiptuneError, match=r"00001.safetensors"):
        read_chunks(run, range(250, 750))


def test_other_settings_are_another_run(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert open_run(Powers(2), store).id == open_run(Powers(2), store).id != open_run(Powers(3), store).id
    assert not list(tmp_path.iterdir())  # opening writes nothing
