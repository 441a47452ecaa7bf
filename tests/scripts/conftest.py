"""Fixtures shared by the tests of the commands: an environment, a command server, one measured sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from script_commands import SWEEP, Server, Shell, Sweep  # noqa: E402


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Nobody's credentials, not inside torchrun, one thread."""
    home = tmp_path_factory.mktemp("home")
    outside = ("WANDB_", "GIT_", "HYDRA_", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    return Shell(kept | {"OMP_NUM_THREADS": "1", "HOME": str(home), "NETRC": str(home / "netrc")})


@pytest.fixture(scope="session")
def server(shell: Shell) -> Iterator[Server]:
    server = Server(shell)
    yield server
    server.close()


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Sweep:
    folder, store = tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("store")
    return Sweep(store, folder, shell.run(folder, "measure.py", *SWEEP, f"outputs={store}"))
