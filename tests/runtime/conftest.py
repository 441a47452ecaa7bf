"""Helpers of these tests are importable here and in the processes they start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Environment of a Python process that finds the package and these helpers, and nobody's credentials."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "GIT_"))}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        kept.pop(name, None)
    return kept | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "netrc"),
    }
