"""Jobs as processes of this machine, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from skiptune.errors import SkiptuneError
from skiptune.runtime.jobs.command import Command, Outcome


def run_local(commands: Sequence[Command], at_once: int, on_done: Callable[[Outcome], None]) -> list[Outcome]:
    """Run all, ``at_once`` at a time; returns their outcomes in order. Stopped, it stops them.

    Raises:
        SkiptuneError: ``at_once`` below 1.
    """
    if at_once < 1:
        raise SkiptuneError(f"{at_once} jobs at once: use 1 or more")
    with ThreadPoolExecutor(at_once) as threads:
        running = [threads.submit(command) for command in commands]
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
