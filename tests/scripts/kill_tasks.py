"""A command as one of two ranks, in a fork of a server that has imported everything: quick to start."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import experiments.registry  # noqa: F401 (everything that takes time to import)
import scripts.shared.common  # noqa: F401
from skiptune.runtime.distributed import join

ROOT = Path(__file__).resolve().parents[2]
SIZE = 2


def rank_main(rank: int, port: int, folder: Path, arguments: tuple[str, ...]) -> None:
    """``python scripts/reproduce.py arguments`` in a folder; what it says is appended to ``log<rank>``.

    ``met<rank>`` there tells which process, the last that met the other, each is.
    """
    log = os.open(folder / f"log{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(SIZE), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    join()
    (folder / f"met{rank}").write_text(str(os.getpid()))
    sys.argv = [str(ROOT / "scripts/reproduce.py"), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")
