"""The processes of data-parallel training: they start together, average their gradients and end together."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.runtime.stopping import STOPPING
from skiptune.runtime.workers import end_with_parent, unheard_by_children

_LOST = "a training worker ended (killed, out of memory?): run the same command again to go on"


@contextlib.contextmanager
def other_workers(count: int, work: Callable[..., object], *arguments: Any) -> Iterator[str]:
    """Run ``work(rank, rendezvous, *arguments)`` in processes of rank ``1 .. count - 1`` during the block.

    Yields the ``rendezvous`` for this process, which is rank 0. The others are spawned, so the main module
    needs its ``if __name__ == "__main__"``. They end with the block and with this process, however that ends.

    Raises:
        SkiptuneError: a process ends before its work begins.
    """
    context = multiprocessing.get_context("spawn")
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{folder}/store"
        try:
            started = []
            for rank in range(1, count):
                receiver, sender = context.Pipe(duplex=False)
                # No daemon, which could not have processes of its own that make images.
                process = context.Process(
                    target=_other_worker,
                    args=(sender, work, rank, rendezvous, *arguments),
                    name=f"training worker {rank}",
                )
                with unheard_by_children(*STOPPING):
                    process.start()
                    processes.append(process)  # a signal that came meanwhile is heard at the block's end
                started.append(receiver)
            for process, receiver in zip(processes, started, strict=True):
                wait([process.sentinel, receiver])
                if not receiver.poll():  # otherwise this process would wait for it at the rendezvous
                    raise SkiptuneError(_LOST)
            yield rendezvous
            for process in processes:
                process.join(timeout=10)
        finally:
            for process in processes:
                process.kill()
                process.join()


@contextlib.contextmanager
def process_group(rank: int, count: int, rendezvous: str, device: torch.device) -> Iterator[None]:
    """Join the other workers; for one worker there is nothing to do."""
    if count == 1:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=count)
    try:
        yield
    finally:
        dist.destroy_process_group()


def average_over_workers(values: Tensor, count: int) -> None:
    """Replace ``values`` by their mean over the workers, the same bits in each.

    Raises:
        SkiptuneError: another worker has ended.
    """
    if count == 1:
        return
    try:
        dist.all_reduce(values)
    except RuntimeError as error:  # the connection is closed
        raise SkiptuneError(_LOST) from error
    values /= count


def _other_worker(
    started: Connection, work: Callable[..., object], rank: int, rendezvous: str, *arguments: Any
) -> None:
    # Who stops the first worker stops this one, which it ends.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    started.send(rank)
    try:
        work(rank, rendezvous, *arguments)
    except SkiptuneError:  # the first worker meets the same mistake and reports it
        raise SystemExit(1) from None
