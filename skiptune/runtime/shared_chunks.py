"""Chunks of several sampling runs computed together where that saves work."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skiptune.errors import SkiptuneError
from skiptune.runtime.balance import balanced
from skiptune.runtime.claims import claiming
from skiptune.runtime.files import canonical_json
from skiptune.runtime.sampling import SamplingSettings, compute_chunks
from skiptune.runtime.seed_chunks import CHUNK, SeedChunk
from skiptune.runtime.together import Plan, make_plan
from skiptune.runtime.watch import AnotherFailed
from skiptune.samplers import make_sampler

# Conditions are joined if that takes at most this share of the time: a killed job loses a whole task.
WORTHWHILE = 0.9


@dataclass(frozen=True)
class SharedChunk:
    """The task of one chunk of several runs that differ in their intervention alone, or of one.

    Computes what no other process is computing and returns the numbers of chunks by run. Raises SkiptuneError
    as the run's ``compute``, after the chunks of all other runs are written.
    """

    chunks: tuple[SeedChunk, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that it makes."""
        return tuple(chunk.path for chunk in self.chunks)

    def __call__(self) -> Counter[str]:
        with claiming(self.paths) as paths:
            mine = [chunk for chunk in self.chunks if chunk.path in paths]
            try:
                _compute(mine)
            except AnotherFailed:
                raise
            except Exception as error:
                _keep_reason(mine, error)
                raise
        return Counter(chunk.run.id for chunk in mine)

    def missing(self) -> SharedChunk | None:
        """The task without the chunks that are there; None if all are."""
        left = tuple(chunk for chunk in self.chunks if chunk.run.missing([chunk.number]))
        return SharedChunk(left) if left else None


def _compute(chunks: Sequence[SeedChunk]) -> None:
    if len(chunks) < 2:
        for chunk in chunks:
            chunk()
        return
    number = chunks[0].number
    conditions = [chunk.settings for chunk in chunks if isinstance(chunk.settings, SamplingSettings)]
    found = compute_chunks(conditions, range(number * CHUNK, (number + 1) * CHUNK))
    for chunk, tensors in zip(chunks, found, strict=True):
        if not isinstance(tensors, SkiptuneError):
            chunk.run.write_chunk(number, tensors)
    for error in found:
        if isinstance(error, SkiptuneError):
            raise error


def _keep_reason(chunks: Sequence[SeedChunk], error: Exception) -> None:
    """For whoever looks at the store and not at this process. A disk that is full cannot keep it."""
    reason = str(error) if isinstance(error, SkiptuneError) else f"{type(error).__name__}: {error}"
    for chunk in chunks:
        if not chunk.path.exists():
            with contextlib.suppress(SkiptuneError):
                chunk.run.write_failure(" ".join(reason.split()))


def joined(chunks: Sequence[SeedChunk], processes: int) -> list[SharedChunk]:
    """Tasks for these chunks, those joined that are worth it, balanced over the processes that take them.

    Work is counted in network calls, all networks taken as equally fast; 1 for other runs than of sampling.
    """
    company: dict[Hashable, list[SeedChunk]] = {}
    for chunk in chunks:
        company.setdefault(_alike(chunk), []).append(chunk)
    plans: dict[tuple[str, ...], Plan | None] = {}

    def plan(members: Sequence[SeedChunk]) -> Plan | None:
        runs = tuple(member.run.id for member in members)
        if runs not in plans:
            plans[runs] = _plan(members)
        return plans[runs]

    def work(task: SharedChunk) -> float:
        return 1.0 if (found := plan(task.chunks)) is None else found.work

    def halves(task: SharedChunk) -> list[SharedChunk]:
        if len(task.chunks) < 2 or (found := plan(task.chunks)) is None:
            return [task]
        return [SharedChunk(part) for part in (task.chunks[: found.middle], task.chunks[found.middle :])]

    tasks: list[SharedChunk] = []
    for members in company.values():
        found = None if len(members) < 2 or _compiled(members[0]) else plan(members)
        together = found is not None and found.cost <= WORTHWHILE
        tasks += [SharedChunk(tuple(members))] if together else [SharedChunk((one,)) for one in members]
    return balanced(tasks, processes, work, halves)


def _alike(chunk: SeedChunk) -> Hashable:
    """What chunks that can be computed together have in common; anything else stays alone."""
    if not isinstance(chunk.settings, SamplingSettings):
        return chunk.run.id, chunk.number
    untouched = replace(chunk.settings, intervention={"name": "none"})
    return canonical_json(untouched.resolved()), chunk.number


def _plan(chunks: Sequence[SeedChunk]) -> Plan | None:
    """Of chunks that can be computed together, or one; None for other runs than of sampling."""
    conditions = [chunk.settings for chunk in chunks if isinstance(chunk.settings, SamplingSettings)]
    if not conditions:
        return None
    # One takes the same with any intervention, and its own may fit the sampler of its network alone.
    acting = [one.intervention for one in conditions] if len(conditions) > 1 else [{"name": "none"}]
    return make_plan(make_sampler(**conditions[0].sampler), acting)


def _compiled(chunk: SeedChunk) -> bool:
    """Whether its blocks are compiled. A block where an intervention waits for its turn is not, so that bits
    would depend on the company."""
    return isinstance(chunk.settings, SamplingSettings) and chunk.settings.compile
