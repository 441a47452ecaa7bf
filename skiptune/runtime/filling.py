"""Fills a run store: what is missing is computed once, however many processes on however many nodes do it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from skiptune.runtime.claims import POLL, claimed, give_back_dead
from skiptune.runtime.distributed import World, share, world
from skiptune.runtime.progress import Progress
from skiptune.runtime.shared_chunks import SharedChunk
from skiptune.runtime.stopping import check_stop
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers

T = TypeVar("T")


class Fillable(Protocol):
    """A task whose files several processes may be making; a small picklable value."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that are claimed by whoever makes them."""
        ...

    def missing(self) -> Self | None:
        """What of it is left to do; None if nothing is. Raises SkiptuneError at a file that is cut off."""
        ...

    def __call__(self) -> Any:
        """Make what nobody else is making; false if that is nothing."""
        ...


TaskT = TypeVar("TaskT", bound=Fillable)

LOOK = 1.0  # seconds between two looks at what is there


@dataclass(frozen=True)
class Filled:
    """What was missing: chunks by run, wall-clock seconds until they were there, images a second of all."""

    chunks: Counter[str]
    seconds: float
    images_per_second: float | None


def fill(tasks: Sequence[SharedChunk], store: RunStore, workers: Workers, label: str, images: int) -> Filled:
    """Compute what is missing; returns when all chunks are there, whoever computed them.

    Every process takes its own share of the tasks first (``rank::world``), then what is left of the others'.
    ``images`` is what all tasks make, for the progress, which the main process alone shows. Nobody waits for
    the other processes, only for their chunks.

    Raises:
        SkiptuneError: as the tasks do; the store cannot be written.
    """
    missing = still_missing(in_turn(tasks, world()))
    if not missing:
        return Filled(Counter(), 0.0, None)
    store.check_writable()
    total = sum(len(task.chunks) for task in tasks)

    def there() -> int:
        absent = sum(not path.exists() for task in missing for path in task.paths)
        return images * (total - absent) // total

    progress = Progress(images, label=label, initial=there(), silent=not world().is_main)
    seconds, rate = fill_in(missing, workers, progress, there)
    lacking = Counter(chunk.run.id for task in missing for chunk in task.chunks)
    return Filled(lacking, seconds, rate)


def fill_in(
    missing: Sequence[TaskT], workers: Workers, progress: Progress, there: Callable[[], int]
) -> tuple[float, float]:
    """Do what is missing; returns, when all of it is there, wall-clock seconds and progress a second.

    ``there`` says how much is there of the progress' total; the main process asks now and then.

    Raises:
        SkiptuneError: as the tasks do.
    """
    started = looked = time.perf_counter()
    with progress:

        def look() -> None:
            nonlocal looked
            if world().is_main and time.perf_counter() - looked > LOOK:
                progress.reach(there())
                looked = time.perf_counter()

        _work(list(missing), workers, look)
        progress.reach(progress.total)
    seconds = time.perf_counter() - started
    return seconds, (progress.total - progress.initial) / seconds


def in_turn(tasks: Sequence[T], world: World) -> list[T]:
    """The tasks of this process, then those of the others from the end, which their owners reach last."""
    mine = share(tasks, world)
    others = [task for i, task in enumerate(tasks) if i % world.size != world.rank]
    return [*mine, *reversed(others)]


def still_missing(tasks: Sequence[TaskT]) -> list[TaskT]:
    """What is left to do. Raises SkiptuneError at a chunk that is cut off."""
    return [rest for task in tasks if (rest := task.missing()) is not None]


def _work(missing: list[TaskT], workers: Workers, look: Callable[[], None]) -> None:
    folders = {path.parent for task in missing for path in task.paths}
    try:
        while missing:
            taken = claimed(folders)
            free = [task for task in missing if not taken.issuperset(task.paths)]
            # Claims of other nodes may not show here yet: then nothing was made either.
            if not any(workers.run(free, lambda _: look())):
                check_stop()
                time.sleep(POLL)
            look()
            missing = still_missing(missing)
    except BaseException:
        give_back_dead(folders)
        raise
