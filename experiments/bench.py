"""Where measurements are made: what is missing is computed by workers, every measurement keeps one record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from experiments.measurement import Measurement, Result
from experiments.references import floor_identity, measure_floor
from experiments.samples import FLOOR_METRICS, SampleMeasurement
from skiptune.errors import SkiptuneError
from skiptune.runtime.claims import made_once
from skiptune.runtime.distributed import barrier, share, world
from skiptune.runtime.files import is_shown
from skiptune.runtime.filling import fill
from skiptune.runtime.provenance import provenance
from skiptune.runtime.seed_chunks import CHUNK, AnyRun, BuiltRun, SeedChunk, chunk_numbers, open_run
from skiptune.runtime.shared_chunks import joined
from skiptune.runtime.store import Run, RunStore
from skiptune.runtime.workers import Workers, one_thread

Wanted = tuple[AnyRun, range]
"""A run and the seeds whose chunks are wanted."""


class NotComputed(SkiptuneError):
    """A result that is not in the store, and why."""


@dataclass(frozen=True)
class Spent:
    """What the computing of one run took in this call."""

    seconds: float
    images_per_second: float | None


@dataclass
class Bench:
    """A run store, workers, a device; ``label`` stands before the progress.

    One that does not ``compute`` has the stored results only.
    """

    store: RunStore
    workers: Workers
    device: str = "cpu"
    label: str = "sampling"
    computes: bool = True

    def measure(self, measurements: Sequence[Measurement]) -> list[Result]:
        """Results in order; only missing chunks and missing records are computed.

        Under torchrun every process computes a share of chunks and records; all return the same results.

        Raises:
            NotComputed: a record is not there and the bench does not compute.
        """
        records = [self.store.open(m.identity) for m in measurements]
        unfinished = [m for m, record in zip(measurements, records, strict=True) if record.record() is None]
        if self.computes:
            spent = self.compute(unfinished)
            for measurement, record in share(list(zip(measurements, records, strict=True)), world()):
                made_once(record.record_path, partial(self._record, record, measurement, spent))
            barrier()
            for record in records:
                is_shown(record.record_path)
        elif unfinished:  # no barrier on either way: other processes may see more of the store, or less
            raise NotComputed(self.failure(unfinished) or "not computed yet")
        return [Result.read(record.id, record.record()) for record in records]

    def compute(self, measurements: Sequence[Measurement]) -> dict[str, Spent]:
        """Compute the missing chunks of all measurements and of what they are built from, first these.

        Returns what each run took.
        """
        spent: dict[str, Spent] = {}
        for wanted in rounds_of(measurements):
            spent |= self.compute_runs(wanted)
        # Once: processes that see other records missing may have other rounds.
        barrier()
        return spent

    def compute_runs(self, wanted: Sequence[Wanted]) -> dict[str, Spent]:
        """Compute the missing chunks of runs whose inputs are there; returns what each run took."""
        tasks: dict[tuple[str, int], SeedChunk] = {}
        for settings, seeds in wanted:
            run = open_run(settings, self.store)
            for number in chunk_numbers(seeds):
                tasks[run.id, number] = SeedChunk(run, settings, number)
        # Every process divides the same list, which others' writing does not change.
        shared = joined(list(tasks.values()), world().size * self.workers.count)
        filled = fill(shared, self.store, self.workers, self.label, len(tasks) * CHUNK)
        each = filled.seconds / max(1, filled.chunks.total())
        return {id: Spent(each * n, filled.images_per_second) for id, n in filled.chunks.items()}

    def failure(self, measurements: Sequence[Measurement]) -> str | None:
        """Why computing their runs failed last, those that they are built from first; None if it did not."""
        wanted = [settings for some in rounds_of(measurements) for settings, _ in some]
        return next((why for run in wanted if (why := open_run(run, self.store).failure())), None)

    def evaluate(self, measurement: Measurement, spent: dict[str, Spent]) -> dict[str, Any]:
        """The record: block values of every metric, measured NFE, what it took and where it was made.

        One thread, because sums round differently with more: the same bits under torchrun and without.
        """
        started = time.perf_counter()
        run = open_run(measurement.settings, self.store)
        with one_thread():
            found = measurement.evaluate(self.store)
        computing = spent.pop(run.id, Spent(0.0, None))
        return {
            "run": run.id,
            "nfe": found.nfe,
            "values": dict(found.values),
            "seeds": [list(bounds) for bounds in measurement.blocks.bounds],
            # While it was computed: of all processes, their start included, mixed with the other runs.
            "images_per_second": computing.images_per_second,
            "seconds": computing.seconds + time.perf_counter() - started,
            "provenance": provenance(self.device),
            **({"chosen": dict(found.chosen)} if found.chosen else {}),
        }

    def _record(self, record: Run, measurement: Measurement, spent: dict[str, Spent]) -> None:
        record.write_record(self.evaluate(measurement, spent))

    def floor(self, measurement: SampleMeasurement) -> Result | None:
        """The metrics between real and real at the measurement's block size, where images are at hand."""
        metrics = tuple(name for name in measurement.metrics if name in FLOOR_METRICS)
        real = measurement.floor_images
        if real is None or not metrics:
            return None
        run = self.store.open(floor_identity(real, measurement.blocks.size, metrics))

        def record() -> None:
            with one_thread():
                run.write_record(measure_floor(self.store, real, measurement.blocks.size, metrics))

        if self.computes:
            if world().is_main:
                made_once(run.record_path, record)
            barrier()
            is_shown(run.record_path)
        found = run.record()
        return Result.read(run.id, found) if self.computes or found else None


def rounds_of(measurements: Sequence[Measurement]) -> list[list[Wanted]]:
    """The runs of these measurements as the last round, before it what they are built from, and so on."""
    rounds: list[list[Wanted]] = [[(m.settings, m.blocks.seeds) for m in measurements]]
    while inputs := inputs_of(rounds[0]):
        rounds.insert(0, inputs)
    return rounds


def inputs_of(wanted: Sequence[Wanted]) -> list[Wanted]:
    """What these are built from directly, each once."""
    found: list[Wanted] = []
    for settings, seeds in wanted:
        if isinstance(settings, BuiltRun):
            found += [(run, seeds) for run in settings.inputs.values() if (run, seeds) not in found]
    return found
