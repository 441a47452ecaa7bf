"""Helpers of these tests are importable here and in the processes they start."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))


@pytest.fixture(scope="session")
def processes():
    """Quick processes: forks of a server that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["runtime_tasks"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # else Python 3.11 cannot preload it
        forkserver.ensure_running()
    return context


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
