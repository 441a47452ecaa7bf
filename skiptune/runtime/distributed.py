"""Several processes started by torchrun: who am I, which tasks are mine, wait for the others."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from skiptune.errors import SkiptuneError

T = TypeVar("T")

# Ranks may wait long for the slowest; torchrun itself ends all of them when one dies.
_PATIENCE = timedelta(days=7)


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


def barrier() -> None:
    """Wait until every process is here. Does nothing when there is one.

    Makes the default process group at the first call and keeps it until the process ends, because making it
    anew for every job of a sweep was seen to hang; a group made by someone else is used as it is.
    """
    if world().size == 1:
        return
    if not dist.is_initialized():
        _initialise()
    if dist.get_backend() == "nccl":
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


def _initialise() -> None:
    if "MASTER_ADDR" not in os.environ:
        raise SkiptuneError("WORLD_SIZE is set but MASTER_ADDR is not: start with torchrun")
    # Files carry the data, so gloo does on GPU machines too.
    dist.init_process_group("gloo", timeout=_PATIENCE)
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
