"""The composed configuration, as scripts/reproduce.py would get it; a small condition to tune."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.bench import Bench
from experiments.measurement import SeedBlocks
from experiments.references import RealImages
from experiments.scale import Scale
from experiments.scale_config import parse_scale
from experiments.tuning.search import Effort
from experiments.tuning.space import Space
from experiments.tuning.tune import Task
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def composed() -> Callable[..., dict[str, Any]]:
    """`composed("scale=paper", ...)`: plain values of configs/reproduce.yaml."""

    @functools.cache
    def once(*overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return OmegaConf.to_container(compose("reproduce", list(overrides)), resolve=True)  # type: ignore

    return lambda *overrides: copy.deepcopy(once(*overrides))


@pytest.fixture(scope="session")
def scales(composed: Callable[..., dict[str, Any]]) -> dict[str, Scale]:
    """Both scales; nothing was downloaded."""
    nowhere = f"checkpoints={ROOT / 'no-checkpoints'}"
    return {name: parse_scale(composed(f"scale={name}", nowhere), "cpu") for name in ("desk", "paper")}


@pytest.fixture
def task(scales: dict[str, Scale]) -> Callable[..., Task]:
    """`task(first selection seed, ...)`: rho of one Euler step of the desk network, a chunk a point."""

    def task(first: int = 1000, **change: Any) -> Task:
        euler, tuned = {"name": "euler", "steps": 1}, {"name": "skip_tuning"}
        settings = scales["desk"].sampling("class_conditional_edm", euler, tuned)
        parts: dict[str, Any] = {
            "settings": settings,
            "real": RealImages("glyphs", 300, settings.features, "cpu"),
            "metric": "fid",
            "space": Space.of({"rho_bottom": [0.2, 0.5, 0.7, 0.8, 0.95]}),
            "effort": Effort(SeedBlocks(first, 1, 250)),
            "report": SeedBlocks(2000, 2, 250),
        }
        return Task(**(parts | change))

    return task


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """One process and an empty run store."""
    return Bench(RunStore(tmp_path / "store"), Workers(1))
