"""SIGKILL at several moments of a sweep: what was computed is kept, and the end is the same in every bit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from script_commands import ROOT, SWEEP, Server, Shell, Sweep, chunks, written

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Whatever a test does, nothing of the process group is left."""
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_killed_sweep_ends_like_an_uninterrupted_one(
    sweep: Sweep, shell: Shell, server: Server, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = (str(ROOT / "scripts/measure.py"), *SWEEP, f"outputs={store}")

    with ended(shell.start(tmp_path, *command, "workers=2")) as process:
        assert wait_until(lambda: chunks(store), 300)
        workers = children(process.pid)
        process.kill()  # the main process alone
        assert len(workers) >= 2
        assert wait_until(lambda: not any(map(alive, workers)), 10), "workers outlived their parent"
    first = chunks(store)
    assert len(first) < 8
    before = {path: time for path, time in written(store).items() if path.suffix == ".safetensors"}

    with ended(shell.start(tmp_path, *command)) as process:
        assert wait_until(lambda: len(chunks(store)) > len(first) + 1, 300)
        process.kill()
        process.wait()
    assert len(first) < len(chunks(store)) < 8

    done = server.run(tmp_path, "measure.py", *SWEEP, f"outputs={store}")
    assert done.code == 0, done.err
    assert done.records() == sweep.done.records()
    assert chunks(store) == chunks(sweep.store)
    assert before.items() <= written(store).items()  # nothing was computed twice
