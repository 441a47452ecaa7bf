"""Tasks that workers of these tests run, and what tests share; the script of the torchrun and kill tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import FileStore

from skiptune.errors import SkiptuneError
from skiptune.runtime import distributed, watch
from skiptune.runtime.distributed import barrier, join, leave, share, stop_together, tell_others, world
from skiptune.runtime.filling import fill
from skiptune.runtime.seed_chunks import CHUNK, SeedChunk, open_run
from skiptune.runtime.shared_chunks import SharedChunk
from skiptune.runtime.stopping import Stopped, stop_on_signals
from skiptune.runtime.store import Run, RunStore
from skiptune.runtime.workers import Workers, one_thread

SETTINGS = {"model": "test", "rho": 0.8}


def error_of(action: Callable[[], object]) -> str:
    """The one line of the SkiptuneError that an action ends in."""
    try:
        action()
    except SkiptuneError as error:
        assert "\n" not in str(error)
        return str(error)
    raise AssertionError("it raised nothing")


def chunk(i: int) -> dict[str, Tensor]:
    """A convolution, a product and a long sum: kernels whose rounding depends on the number of threads."""
    generator = torch.Generator().manual_seed(i)
    images = torch.randn(4, 8, 32, 32, generator=generator)
    weights = torch.randn(16, 8, 3, 3, generator=generator)
    features = torch.nn.functional.conv2d(images, weights).flatten(1)
    return {"features": features @ features.T, "sum": torch.randn(300_000, generator=generator).sum()}


@dataclass(frozen=True)
class Compute:
    run: Run
    i: int

    def __call__(self) -> int:
        self.run.write_chunk(self.i, chunk(self.i))
        return os.getpid()


@dataclass(frozen=True)
class Threads:
    def __call__(self) -> tuple[int, str | None]:
        return torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")


@dataclass(frozen=True)
class Touch:
    """Sleeps, then leaves a file that shows that it was done."""

    path: Path
    seconds: float = 0.0

    def __call__(self) -> None:
        time.sleep(self.seconds)
        self.path.touch()


@dataclass(frozen=True)
class Fail:
    message: str

    def __call__(self) -> None:
        raise SkiptuneError(self.message)


@dataclass(frozen=True)
class Die:
    def __call__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class ReportAndSleep:
    """Writes its process id and sleeps, as a long chunk would."""

    path: Path

    def __call__(self) -> None:
        self.path.write_text(str(os.getpid()))
        time.sleep(120)


@dataclass(frozen=True)
class Logged:
    """Settings of a run whose every computed chunk leaves a line ``process first-seed`` in a log."""

    log: Path
    seconds: float = 0.02

    def resolved(self) -> dict[str, Any]:
        return {"kind": "logged"}

    def compute(self, seeds: range) -> dict[str, Tensor]:
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} {seeds.start // CHUNK}\n")
        time.sleep(self.seconds)
        return {"seeds": torch.arange(seeds.start, seeds.stop)}


def logged_tasks(store: RunStore, settings: Logged, n_chunks: int) -> list[SharedChunk]:
    run = open_run(settings, store)
    return [SharedChunk((SeedChunk(run, settings, i),)) for i in range(n_chunks)]


def fill_logged(root: Path, settings: Logged, n_chunks: int, ready: Any = None) -> None:
    store = RunStore(root)
    if ready is not None:
        ready.wait()
    fill(logged_tasks(store, settings, n_chunks), store, Workers(1), "logged", n_chunks * CHUNK)


def member(rank: int, size: int, port: int, root: Path, n_chunks: int, end: str) -> None:
    """One of several processes that fill a run; rank 1 comes to another end. Leaves its error in a file."""
    os.environ.update(
        {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    )
    os.dup2(os.open(root / f"stderr{rank}", os.O_WRONLY | os.O_CREAT), 2)
    join()
    try:
        if rank == 1 and end != "well":
            while not list(root.glob("runs/*/chunks/*.safetensors")):
                time.sleep(0.02)
            if end == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise SkiptuneError("no room on node7")
        fill_logged(root, Logged(root / "log", 0.05), n_chunks)
        time.sleep(rank)
        leave()
    except SkiptuneError as error:
        tell_others(error)
        (root / f"error{rank}").write_text(f"{time.time()} {error}")
        raise SystemExit(2) from None


def told_to_stop(rank: int, size: int, port: int, root: Path, n_chunks: int, seconds: list[float]) -> None:
    """One of several processes that fill a run, a chunk in its own time; with 0 it only waits for others."""
    os.environ.update(
        {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    )
    fill_until_stopped(root, n_chunks, seconds[rank])


def fill_until_stopped(root: Path, n_chunks: int, seconds: float) -> None:
    """Ends as the programs do."""
    stop_on_signals()
    try:
        join()
        if seconds > 0:
            fill_logged(root, Logged(root / "log", seconds), n_chunks)
        barrier()
        leave()
    except Stopped:
        stop_together()
        raise SystemExit(143) from None


def stopping_main(root: str) -> None:
    """Under torchrun, which ends all processes when one has ended."""
    fill_until_stopped(Path(root), 400, (0.2, 3.0)[world().rank])


def alone(rank: int, port: int, root: Path) -> None:
    """One of two processes, the other of which died before they met. Leaves its error in a file."""
    os.environ.update({"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"})
    os.environ["MASTER_PORT"] = str(port)
    distributed.ARRIVAL = watch.ARRIVAL = 1.0
    try:
        join()
    except SkiptuneError as error:
        (root / f"error{rank}").write_text(str(error))
        raise SystemExit(2) from None


def watcher(rank: int, root: Path) -> None:
    """One of two processes that watch each other and part well."""
    watch._INTRODUCTION = 0.5
    watch.Watch(FileStore(str(root / "meeting"), 2), rank, 2, "127.0.0.1").leave()


def big_chunk(i: int) -> dict[str, Tensor]:
    """8 MB, so that a kill often falls into the writing."""
    return {"x": torch.full((2_000_000,), float(i))}


def write_missing(run: Run, n_chunks: int) -> None:
    for i in run.missing(n_chunks):
        run.write_chunk(i, big_chunk(i))


def write_again_and_again(run: Run, times: int) -> None:
    for _ in range(times):
        run.write_chunk(0, big_chunk(0))


def torchrun_main(root: str) -> None:
    me = world()
    run = RunStore(root).open(SETTINGS)
    time.sleep(me.rank)  # so that rank 0 has something to wait for
    with one_thread():
        for i in run.missing(share(range(5), me)):
            run.write_chunk(i, chunk(i))
    barrier()
    if me.is_main:
        record: dict[str, Any] = {"size": me.size, "missing": run.missing(5)}
        run.write_record(record)
    barrier()


def sleep_main(path: str) -> None:
    with Workers(2) as workers:
        workers.run([ReportAndSleep(Path(path))])


if __name__ == "__main__":
    {"torchrun": torchrun_main, "stopping": stopping_main, "sleep": sleep_main}[sys.argv[1]](sys.argv[2])
