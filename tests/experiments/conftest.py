"""The composed configuration, as scripts/reproduce.py would get it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.scale import Scale, parse_scale

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def composed() -> Callable[..., dict[str, Any]]:
    """`composed("scale=paper", ...)`: plain values of configs/reproduce.yaml."""

    def composed(*overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return OmegaConf.to_container(compose("reproduce", list(overrides)), resolve=True)  # type: ignore

    return composed


@pytest.fixture(scope="session")
def scales(composed: Callable[..., dict[str, Any]]) -> dict[str, Scale]:
    """Both scales; nothing was downloaded."""
    nowhere = f"checkpoints={ROOT / 'no-checkpoints'}"
    return {name: parse_scale(composed(f"scale={name}", nowhere), "cpu") for name in ("desk", "paper")}
