"""Jobs as processes of this machine, a few at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue

import torch

from skiptune.errors import SkiptuneError
from skiptune.runtime.jobs.command import Command, Outcome

GPUS = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    given = [name.strip() for name in os.environ.get(GPUS, "").split(",") if name.strip()]
    return given or [str(number) for number in range(torch.cuda.device_count())]


def run_local(
    commands: Sequence[Command],
    at_once: int,
    on_done: Callable[[Outcome], None],
    gpus: Sequence[str] = (),
) -> list[Outcome]:
    """Run all, ``at_once`` at a time; returns their outcomes in order. Stopped, it stops them.

    Where there are ``gpus``, a job has one of them to itself, so no more run than there are.

    Raises:
        SkiptuneError: ``at_once`` below 1.
    """
    if at_once < 1:
        raise SkiptuneError(f"{at_once} jobs at once: use 1 or more")
    free = SimpleQueue[str]()
    for gpu in gpus:
        free.put(gpu)

    def run(command: Command) -> Outcome:
        if not gpus:
            return command()
        gpu = free.get()
        try:
            return command({GPUS: gpu})
        finally:
            free.put(gpu)

    with ThreadPoolExecutor(min(at_once, len(gpus) or at_once)) as threads:
        running = [threads.submit(run, command) for command in commands]
        try:
            for future in as_completed(running):
                on_done(future.result())
        except BaseException:
            for future in running:
                future.cancel()
            for command in commands:
                command.stop()
            raise
    return [future.result() for future in running]
