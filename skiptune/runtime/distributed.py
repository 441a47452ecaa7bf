"""Several processes started by torchrun: who am I, which tasks are mine, wait for the others."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from skiptune.errors import SkiptuneError
from skiptune.runtime.stopping import STOPPED, check_stop, pass_on
from skiptune.runtime.watch import ARRIVAL, Watch

T = TypeVar("T")

# Ranks may wait long for the slowest; when one dies, the watch ends all of them.
_PATIENCE = timedelta(days=7)
_POLL = 0.005  # seconds between two looks at whether all are here


@dataclass(frozen=True)
class World:
    """This process among `size`: `rank` over all machines, `local_rank` on this machine (its GPU)."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process reduces, writes records and tracks."""
        return self.rank == 0


def world() -> World:
    """The world that torchrun describes in RANK, WORLD_SIZE and LOCAL_RANK; one process when they are absent.

    Raises SkiptuneError if only some of them are set or they make no sense.
    """
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        return World()
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if not 0 <= rank < size or local_rank < 0:
            raise ValueError(f"rank {rank} of {size}")
    except (KeyError, ValueError) as error:
        raise SkiptuneError(
            f"RANK, WORLD_SIZE, LOCAL_RANK do not fit together ({error}): start with torchrun or unset them"
        ) from error
    return World(rank, size, local_rank)


def share(tasks: Sequence[T], world: World) -> Sequence[T]:
    """The tasks of this process: every `size`-th from `rank` on.

    Give it the same sequence in every process: all chunks, not the missing ones, which change while others
    write: `run.missing(share(range(n_chunks), world))`.
    """
    return tasks[world.rank :: world.size]


class _Joined:
    watch: Watch | None = None


def join() -> None:
    """Make the default process group and watch the others from now on. Nothing to do for one process.

    The group is kept until the process ends, because making it anew for every job of a sweep was seen to
    hang; a group made by someone else is used as it is. To be called by the main thread.

    Raises:
        SkiptuneError: not started by torchrun or the like; not all came within ``ARRIVAL`` seconds.
    """
    me = world()
    if me.size == 1 or dist.is_initialized():
        return
    if "MASTER_ADDR" not in os.environ:
        raise SkiptuneError("WORLD_SIZE is set but MASTER_ADDR is not: start with torchrun")
    try:
        store, _, _ = next(rendezvous("env://", me.rank, me.size, timeout=timedelta(seconds=ARRIVAL)))
        watched = PrefixStore("watch", store)
        _Joined.watch = Watch(watched, me.rank, me.size, os.environ["MASTER_ADDR"])
        pass_on(_Joined.watch.stopping)
        # Files carry the data, so gloo does on GPU machines too.
        group = PrefixStore("group", store)
        dist.init_process_group("gloo", store=group, rank=me.rank, world_size=me.size, timeout=_PATIENCE)
    except (RuntimeError, OSError) as error:
        raise _lost(error, f"the {me.size} processes of this job did not meet") from error
    atexit.register(leave)


def barrier() -> None:
    """Wait until every process is here; the first call joins them. Does nothing when there is one.

    Raises:
        SkiptuneError: another process failed or ended.
        Stopped: told to stop; others may pass it all the same.
    """
    if world().size == 1:
        return
    join()
    devices = [torch.cuda.current_device()] if dist.get_backend() == "nccl" else None
    try:
        all_here = dist.barrier(device_ids=devices, async_op=True)
        while not all_here.is_completed():
            check_stop()
            time.sleep(_POLL)
        all_here.wait()
    except RuntimeError as error:  # the connection to a process that ended
        raise _lost(error, "another process ended") from error


def tell_others(error: object) -> None:
    """This process fails: the others stop with its error. Does nothing when there is one."""
    if _Joined.watch is not None:
        _Joined.watch.fail(error)


def stop_together() -> None:
    """This process was told to stop and has finished its chunk: ends it when the others have finished theirs.

    Does nothing when there is one. The end is at once, because torch waits for those that a barrier misses.

    Raises:
        SkiptuneError: another process fails meanwhile.
    """
    if _Joined.watch is not None:
        # torchrun says so to all when the first has ended; there is nothing left to tidy up.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _Joined.watch.part()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(STOPPED)


def _lost(error: Exception, what: str) -> SkiptuneError:
    """What to say when the connection to the others breaks; raises what they said last, if they did."""
    if _Joined.watch is not None:
        _Joined.watch.check(seconds=5.0)
    return SkiptuneError(f"{what}: {str(error).splitlines()[0]}")


def leave() -> None:
    """This process has done its work: the others do not miss it. Called at the end of a program by itself."""
    if _Joined.watch is not None:
        _Joined.watch.leave()
    if dist.is_initialized():
        dist.destroy_process_group()
