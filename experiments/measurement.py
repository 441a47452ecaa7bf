"""Measure conditions: sample what is missing, evaluate seed blocks, keep one record per measurement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.references import RealImages, floor_identity, measure_floor
from experiments.values import Value
from skiptune.errors import SkiptuneError
from skiptune.evaluation import Reference
from skiptune.evaluation.intervals import block_interval
from skiptune.evaluation.metrics import get_metric
from skiptune.runtime.distributed import barrier, share, world
from skiptune.runtime.progress import Progress
from skiptune.runtime.provenance import provenance
from skiptune.runtime.sampling import (
    CHUNK,
    NUMERICS,
    SampleChunk,
    Samples,
    SamplingSettings,
    chunk_numbers,
    read_samples,
)
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers, one_thread

FLOOR_METRICS = ("fid",)  # metrics that compare with the reference; others say nothing about real images


@dataclass(frozen=True)
class SeedBlocks:
    """``count`` consecutive blocks of ``size`` seeds from ``first`` on; a metric is computed per block."""

    first: int
    count: int
    size: int

    def __post_init__(self) -> None:
        for name, value in (("first", self.first), ("count", self.count), ("size", self.size)):
            if type(value) is not int:
                raise SkiptuneError(f"{name} of the seed blocks is {value!r}, it must be a whole number")
        if self.count < 1:
            raise SkiptuneError(f"{self.count} seed blocks: use at least 1, and 2 or more for an interval")
        chunk_numbers(range(self.first, self.first + self.size))

    @classmethod
    def of(cls, settings: Any) -> SeedBlocks:
        """From ``{"first", "count", "size"}``. Raises SkiptuneError for anything else."""
        try:
            return cls(**settings)
        except TypeError as error:
            raise SkiptuneError(f"seed blocks are {{first, count, size}}, not {settings!r}") from error

    @property
    def seeds(self) -> range:
        return range(self.first, self.first + self.count * self.size)

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """First and last seed of every block."""
        starts = range(self.first, self.first + self.count * self.size, self.size)
        return tuple((start, start + self.size - 1) for start in starts)


@dataclass(frozen=True)
class Measurement:
    """One condition on some seeds, evaluated against the reference images of a data set."""

    settings: SamplingSettings
    blocks: SeedBlocks
    dataset: str
    reference_images: int
    metrics: tuple[str, ...] = ("fid",)

    def __post_init__(self) -> None:
        if not self.metrics:
            raise SkiptuneError("no metrics given: name at least one")
        for name in self.metrics:
            get_metric(name)
        self.real  # noqa: B018 - refuses a reference that cannot be

    @property
    def real(self) -> RealImages:
        """The real images of the reference."""
        settings = self.settings
        return RealImages(
            self.dataset, self.reference_images, settings.features, settings.features_sha256, settings.device
        )


@dataclass(frozen=True)
class Result:
    """What was measured: block values per metric, measured NFE, hashes of record and sampling run."""

    record: str
    run: str
    nfe: int
    blocks: dict[str, list[float]]
    bounds: tuple[tuple[int, int], ...]
    images_per_second: float | None
    seconds: float
    provenance: dict[str, Any]

    def value(self, metric: str) -> Value:
        """Mean over the blocks with its 95% interval; without one if there is a single block."""
        values = self.blocks[metric]
        if len(values) == 1:
            return Value(values[0], None, None, 1, self.bounds)
        interval = block_interval(values)
        return Value(interval.value, interval.low, interval.high, len(values), self.bounds)


@dataclass(frozen=True)
class Spent:
    """What the sampling of one run took in this call."""

    seconds: float
    images_per_second: float | None


@dataclass
class Bench:
    """Where and with what measurements are made: a run store, workers, a device."""

    store: RunStore
    workers: Workers
    device: str = "cpu"
    label: str = "sampling"
    references: dict[RealImages, Reference] = field(default_factory=dict)

    def measure(self, measurements: Sequence[Measurement]) -> list[Result]:
        """Results in order; only missing chunks and missing records are computed.

        Under torchrun every process computes its share of the chunks and all return the same results.
        """
        records = [self.store.open(self.identity(m)) for m in measurements]
        unfinished = [m for m, record in zip(measurements, records, strict=True) if record.record() is None]
        spent = self.sample(unfinished)
        for measurement, record in zip(measurements, records, strict=True):
            if record.record() is None and world().is_main:
                record.write_record(self.evaluate(measurement, spent))
        barrier()
        return [self.result(record.id, record.record()) for record in records]

    def identity(self, measurement: Measurement) -> dict[str, Any]:
        """Everything that determines a measurement, as plain values."""
        return {
            "kind": "measurement",
            "numerics": NUMERICS,
            "sampling": measurement.settings.resolved(),
            "seeds": [list(bounds) for bounds in measurement.blocks.bounds],
            "reference": measurement.real.identity,
            "metrics": sorted(measurement.metrics),
        }

    def sample(self, measurements: Sequence[Measurement]) -> dict[str, Spent]:
        """Compute the missing chunks of all measurements; returns what each sampling run took."""
        tasks: dict[tuple[str, int], SampleChunk] = {}
        for measurement in measurements:
            run = measurement.settings.open(self.store)
            for number in chunk_numbers(measurement.blocks.seeds):
                tasks[run.id, number] = SampleChunk(run, measurement.settings, number)
        mine = share(list(tasks.values()), world())
        missing = [task for task in mine if task.run.missing([task.number])]
        spent: dict[str, Spent] = {}
        if missing:
            self.store.check_writable()
            started = time.perf_counter()
            done = (len(mine) - len(missing)) * CHUNK
            silent = not world().is_main
            with Progress(len(mine) * CHUNK, label=self.label, initial=done, silent=silent) as progress:
                self.workers.run(missing, lambda task: progress.advance(CHUNK))
            seconds = time.perf_counter() - started
            rate = len(missing) * CHUNK * world().size / seconds
            for id, chunks in Counter(task.run.id for task in missing).items():
                spent[id] = Spent(seconds * chunks / len(missing), rate)
        barrier()
        return spent

    def evaluate(self, measurement: Measurement, spent: dict[str, Spent]) -> dict[str, Any]:
        """The record: block values of every metric, measured NFE, what it took and where it was made.

        One thread, because sums round differently with more: the same bits under torchrun and without.
        """
        started = time.perf_counter()
        run = measurement.settings.open(self.store)
        with one_thread():
            samples = read_samples(run, measurement.blocks.seeds)
            reference = self.reference(measurement.real)
            blocks = samples.features.blocks(measurement.blocks.count)
            values = {
                name: [get_metric(name).compute(block, reference) for block in blocks]
                for name in sorted(measurement.metrics)
            }
        sampling = spent.pop(run.id, Spent(0.0, None))
        return {
            "run": run.id,
            "nfe": samples.nfe,
            "values": values,
            "seeds": [list(bounds) for bounds in measurement.blocks.bounds],
            # Of the call that sampled it: all workers, their start included, mixed with its other runs.
            "images_per_second": sampling.images_per_second,
            "seconds": sampling.seconds + time.perf_counter() - started,
            "provenance": provenance(self.device),
        }

    def reference(self, real: RealImages) -> Reference:
        """The reference, read once per bench."""
        if real not in self.references:
            self.references[real] = real.reference(self.store)
        return self.references[real]

    def floor(self, measurement: Measurement) -> Result:
        """The metrics between real and real at the measurement's block size (see ``references``)."""
        real, size = measurement.real, measurement.blocks.size
        metrics = tuple(name for name in measurement.metrics if name in FLOOR_METRICS)
        run = self.store.open(floor_identity(real, size, metrics))
        if run.record() is None and world().is_main:
            with one_thread():
                run.write_record(measure_floor(self.store, real, size, metrics))
        barrier()
        return self.result(run.id, run.record())

    def result(self, identity: str, record: dict[str, Any] | None) -> Result:
        """The result that a stored record holds."""
        if record is None:
            raise SkiptuneError(
                f"record {identity} was not written by the first process; look at its messages"
            )
        return Result(
            record=identity,
            run=record["run"],
            nfe=round(record["nfe"]),
            blocks=record["values"],
            bounds=tuple((first, last) for first, last in record["seeds"]),
            images_per_second=record["images_per_second"],
            seconds=record["seconds"],
            provenance=record["provenance"],
        )

    def samples(self, measurement: Measurement) -> Samples:
        """The stored features and first images of a measurement made before."""
        return read_samples(measurement.settings.open(self.store), measurement.blocks.seeds)
