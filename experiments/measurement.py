"""Measure conditions: sample what is missing, evaluate seed blocks, keep one record per measurement."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.tables.results import Value
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.evaluation import Reference, ReferenceStatistics, dataset_features
from skiptune.evaluation.intervals import block_interval
from skiptune.evaluation.metrics import get_metric
from skiptune.evaluation.statistics import GaussianStatistics
from skiptune.runtime.distributed import barrier, share, world
from skiptune.runtime.progress import Progress
from skiptune.runtime.provenance import provenance
from skiptune.runtime.sampling import (
    CHUNK,
    NUMERICS,
    SampleChunk,
    Samples,
    SamplingSettings,
    cached_extractor,
    chunk_numbers,
    read_samples,
)
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers


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
        if type(self.reference_images) is not int or self.reference_images < 2:
            raise SkiptuneError(f"reference_images is {self.reference_images!r}, it must be 2 or more")


@dataclass(frozen=True)
class Result:
    """What was measured: block values per metric, measured NFE, hashes of record and sampling run."""

    record: str
    run: str
    nfe: int
    blocks: dict[str, list[float]]
    bounds: tuple[tuple[int, int], ...]
    images_per_second: float | None

    def value(self, metric: str) -> Value:
        """Mean over the blocks with its 95% interval; without one if there is a single block."""
        values = self.blocks[metric]
        if len(values) == 1:
            return Value(values[0], None, None, 1, self.bounds)
        interval = block_interval(values)
        return Value(interval.value, interval.low, interval.high, len(values), self.bounds)


@dataclass
class Bench:
    """Where and with what measurements are made: a run store, workers, a device."""

    store: RunStore
    workers: Workers
    device: str = "cpu"
    label: str = "sampling"
    references: dict[tuple[str, str, int], Reference] = field(default_factory=dict)

    def measure(self, measurements: Sequence[Measurement]) -> list[Result]:
        """Results in order; only missing chunks and missing records are computed.

        Under torchrun every process computes its share of the chunks and all return the same results.
        """
        records = [self.store.open(self.identity(m)) for m in measurements]
        unfinished = [m for m, record in zip(measurements, records, strict=True) if record.record() is None]
        rate = self.sample(unfinished)
        for measurement, record in zip(measurements, records, strict=True):
            if record.record() is None and world().is_main:
                record.write_record(self.evaluate(measurement, rate))
        barrier()
        return [self.result(record.id, record.record()) for record in records]

    def identity(self, measurement: Measurement) -> dict[str, Any]:
        """Everything that determines a measurement, as plain values."""
        return {
            "kind": "measurement",
            "numerics": NUMERICS,
            "sampling": measurement.settings.resolved(),
            "seeds": [list(bounds) for bounds in measurement.blocks.bounds],
            "reference": {
                "dataset": measurement.dataset,
                "split": "reference",
                "images": measurement.reference_images,
            },
            "metrics": sorted(measurement.metrics),
        }

    def sample(self, measurements: Sequence[Measurement]) -> float | None:
        """Compute the missing chunks of all measurements; returns images per second, None for none."""
        tasks: dict[tuple[str, int], SampleChunk] = {}
        for measurement in measurements:
            run = measurement.settings.open(self.store)
            for number in chunk_numbers(measurement.blocks.seeds):
                tasks[run.id, number] = SampleChunk(run, measurement.settings, number)
        mine = share(list(tasks.values()), world())
        missing = [task for task in mine if task.run.missing([task.number])]
        rate = None
        if missing:
            self.store.check_writable()
            started = time.perf_counter()
            done = (len(mine) - len(missing)) * CHUNK
            silent = not world().is_main
            with Progress(len(mine) * CHUNK, label=self.label, initial=done, silent=silent) as progress:
                self.workers.run(missing, lambda task: progress.advance(CHUNK))
            rate = len(missing) * CHUNK / (time.perf_counter() - started)
        barrier()
        return rate

    def evaluate(self, measurement: Measurement, rate: float | None) -> dict[str, Any]:
        """The record: block values of every metric, measured NFE, where it was made."""
        run = measurement.settings.open(self.store)
        samples = read_samples(run, measurement.blocks.seeds)
        reference = self.reference(measurement)
        blocks = samples.features.blocks(measurement.blocks.count)
        values = {
            name: [get_metric(name).compute(block, reference) for block in blocks]
            for name in sorted(measurement.metrics)
        }
        return {
            "run": run.id,
            "nfe": samples.nfe,
            "values": values,
            "seeds": [list(bounds) for bounds in measurement.blocks.bounds],
            "images_per_second": rate,
            "provenance": provenance(self.device),
        }

    def result(self, identity: str, record: dict[str, Any] | None) -> Result:
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
        )

    def samples(self, measurement: Measurement) -> Samples:
        """The stored features and first images of a measurement made before."""
        return read_samples(measurement.settings.open(self.store), measurement.blocks.seeds)

    def reference(self, measurement: Measurement) -> Reference:
        """Statistics of the real images, computed once per store (a chunk of a run of its own)."""
        settings, count = measurement.settings, measurement.reference_images
        key = (measurement.dataset, settings.features_sha256, count)
        if key not in self.references:
            run = self.store.open(
                {
                    "kind": "reference",
                    "numerics": NUMERICS,
                    "dataset": measurement.dataset,
                    "split": "reference",
                    "images": count,
                    "features": {"name": settings.features, "sha256": settings.features_sha256},
                    "device": self.device,
                }
            )
            if not run.has_chunk(0):
                features = self.real_features(measurement, range(count))
                statistics = GaussianStatistics.from_features(features.features)
                run.write_chunk(0, {"mean": statistics.mean, "covariance": statistics.covariance})
            stored = run.read_chunk(0)
            self.references[key] = Reference(ReferenceStatistics(stored["mean"], stored["covariance"]))
        return self.references[key]

    def real_features(self, measurement: Measurement, seeds: Sequence[int]) -> Any:
        """Features of real images of the split ``reference``."""
        settings = measurement.settings
        extractor = cached_extractor(settings.features, settings.features_sha256, self.device)
        return dataset_features(extractor, load_dataset(measurement.dataset), seeds, "reference")

    def floor(self, measurement: Measurement) -> Result:
        """Real against real at the same number of images: what a perfect model would reach.

        Blocks of real images that are not in the reference; of a finite data set, blocks drawn from it with
        replacement.
        """
        size = load_dataset(measurement.dataset).size("reference")
        identity = {**self.identity(measurement), "kind": "floor", "metrics": ["fid"]}
        identity["sampling"] = {"features": measurement.settings.resolved()["features"]}
        run = self.store.open(identity)
        if run.record() is None and world().is_main:
            reference, blocks, values = self.reference(measurement), measurement.blocks, []
            for i in range(blocks.count):
                start = measurement.reference_images + i * blocks.size
                if start + blocks.size <= size:
                    seeds: Sequence[int] = range(start, start + blocks.size)
                else:
                    seeds = np.random.default_rng(i).integers(size, size=blocks.size).tolist()
                values.append(get_metric("fid").compute(self.real_features(measurement, seeds), reference))
            run.write_record(
                {
                    "run": run.id,
                    "nfe": 0,
                    "values": {"fid": values},
                    "seeds": [list(bounds) for bounds in blocks.bounds],
                    "images_per_second": None,
                    "provenance": provenance(self.device),
                }
            )
        barrier()
        return self.result(run.id, run.record())
