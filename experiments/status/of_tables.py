"""How far tables are, from the run store alone: counts, failures, the time left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from experiments.scale import Scale
from experiments.status.work import Work, work_of
from experiments.tables.config import TableConfig
from skiptune.runtime.store import RunStore

RECENT = 3600.0  # seconds: chunks written since then, if any, tell the rate of who is computing now


@dataclass(frozen=True)
class TableStatus:
    """One table: chunks and measurements, what keeps it from being made, the time left.

    Attributes:
        chunks: needed, of which ``done`` are there, ``running`` are claimed by living processes, ``failed``
            are of runs whose last attempt failed; the others are ``missing``.
        failures: why they failed.
        table: ``<paper>/<name>``, as ``table=`` takes it.
        measured: measurements whose record is there, of ``measurements``.
        problem: why runs cannot be named here, such as a missing file; empty if there is no such reason.
        seconds: estimate of the time left, from measured rates; None where no rate is known.
    """

    table: str
    title: str
    chunks: int
    done: int
    running: int
    failed: int
    failures: tuple[str, ...]
    measurements: int
    measured: int
    problem: str
    seconds: float | None

    @property
    def missing(self) -> int:
        return self.chunks - self.done - self.running - self.failed

    @property
    def state(self) -> str:
        """One word: done, running, failed, blocked, partly or missing."""
        if self.measured == self.measurements:
            return "done"
        for state, holds in (("running", self.running), ("failed", self.failed), ("blocked", self.problem)):
            if holds:
                return state
        return "partly" if self.done or self.measured else "missing"


def rates(works: Iterable[Work], now: float) -> dict[str, float]:
    """Network evaluations per second by model: of who computes now, else as records have it (the median)."""
    recorded: dict[str, list[float]] = {}
    recent: dict[str, dict[tuple[str | None, int], tuple[float, float]]] = {}
    for work in works:
        if work.rate is not None:
            recorded.setdefault(work.model, []).append(work.rate)
        for number, when in work.written.items():
            if now - when < RECENT:
                recent.setdefault(work.model, {})[work.run, number] = (when, work.evaluations)
    found = {model: statistics.median(values) for model, values in recorded.items()}
    for model, chunks in recent.items():
        times = sorted(chunks.values())
        # The first chunk tells when the clock starts, not how long it took.
        span = times[-1][0] - times[0][0]
        if span > 0:
            found[model] = sum(evaluations for _, evaluations in times[1:]) / span
    return found


def seconds_left(works: Sequence[Work], known: Mapping[str, float]) -> float | None:
    """At these rates; a model without one is taken to be as fast as the others. None if none is known."""
    missing = {
        (work.run or f"row {index}", number): work for index, work in enumerate(works) for number in work.left
    }
    if not missing:
        return 0.0
    if not known:
        return None
    usual = statistics.median(known.values())
    return sum(work.evaluations / known.get(work.model, usual) for work in missing.values())


def status_of(tables: Mapping[str, TableConfig], scale: Scale, store: RunStore) -> list[TableStatus]:
    """The status of tables by name, in order.

    Raises:
        SkiptuneError: a configuration names what does not exist.
    """
    works = {name: work_of(config, scale, store) for name, config in tables.items()}
    known = rates((work for some, _ in works.values() for work in some), time.time())
    return [
        table_status(name, tables[name].title, some, problem, known)
        for name, (some, problem) in works.items()
    ]


def table_status(
    name: str, title: str, works: Sequence[Work], problem: str, known: Mapping[str, float]
) -> TableStatus:
    """Counts of one table; a chunk that several of its rows share counts once."""
    needed = {(work.run or f"row {i}", number) for i, work in enumerate(works) for number in work.needed}
    done = {(work.run, number) for work in works for number in work.done}
    running = {(work.run, number) for work in works for number in work.running}
    broken = [work for work in works if work.failure is not None]
    failed = {(work.run, number) for work in broken for number in work.left - work.running}
    return TableStatus(
        table=name,
        title=title,
        chunks=len(needed),
        done=len(done),
        running=len(running),
        failed=len(failed),
        failures=tuple(dict.fromkeys(work.failure for work in broken if work.failure and work.left)),
        measurements=len(works),
        measured=sum(work.recorded for work in works),
        problem=problem,
        seconds=seconds_left(works, known),
    )
