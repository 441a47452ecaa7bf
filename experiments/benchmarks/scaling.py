"""How work grows with processes: measured here with one and two, simulated for a table of a cluster."""

from __future__ import annotations

import heapq
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.sampling import spread
from experiments.benchmarks.timing import alternate, made_on
from experiments.needs import needs_of
from experiments.scale import Scale
from experiments.tables.config import TableConfig
from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import World
from skiptune.runtime.filling import fill, in_turn
from skiptune.runtime.provenance import provenance
from skiptune.runtime.sampling import SamplingSettings
from skiptune.runtime.seed_chunks import CHUNK, SeedChunk, open_run
from skiptune.runtime.shared_chunks import SharedChunk
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers, end_with_parent, one_thread

AIM = 1.8  # times the throughput of one process on one core, with two on two


@dataclass(frozen=True)
class Schedule:
    """Seconds until the last worker is done; the share of all workers' time that they waited."""

    seconds: float
    idle: float


def schedule(chunks: Sequence[float], workers: int, afterwards: Sequence[float] = ()) -> Schedule:
    """The run of a job whose chunks take these seconds, divided as ``runtime/filling.py`` divides them.

    Every worker takes its own share first, then what is left of the others'. ``afterwards``: seconds of tasks
    that begin when all chunks are there, worker k the k-th, k + workers-th, ... (the metrics of the rows).

    Raises:
        SkiptuneError: less than one worker.
    """
    if workers < 1:
        raise SkiptuneError(f"{workers} workers: use 1 or more")
    numbers = range(len(chunks))
    orders = [iter(in_turn(numbers, World(rank, workers))) for rank in range(workers)]
    taken: set[int] = set()
    free = [(0.0, rank) for rank in range(workers)]
    ends = [0.0] * workers
    while free:
        now, rank = heapq.heappop(free)
        number = next((n for n in orders[rank] if n not in taken), None)
        if number is not None:
            taken.add(number)
            ends[rank] = now + chunks[number]
            heapq.heappush(free, (ends[rank], rank))
    tail = max((sum(afterwards[rank::workers]) for rank in range(workers)), default=0.0)
    total = max(ends) + tail
    busy = sum(chunks) + sum(afterwards)
    return Schedule(total, 1 - busy / (workers * total) if total else 0.0)


def table_chunks(config: TableConfig, scale: Scale, tflops: float) -> list[float]:
    """Seconds of every chunk of a table on a worker of that speed, in the order of the rows.

    From the operation counts of the networks, those of the feature extractor not counted.
    """
    chunks: list[float] = []
    for row in needs_of(config, scale).rows:
        count = -(-row.images // CHUNK)
        chunks += [row.gflop / count / 1e3 / tflops] * count
    return chunks


def benchmark_scaling(settings: SamplingSettings, chunks: int, repeats: int) -> dict[str, Any]:
    """Chunks of one run by two processes on two cores against one process on one, both on fresh run stores.

    The processes are started and have loaded the network before; one thread each.

    Raises:
        SkiptuneError: fewer than two cores; the stores differ in a bit.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        raise SkiptuneError("two cores are needed (and a system that can bind processes to them)")
    with tempfile.TemporaryDirectory() as name, Station(settings) as first, Station(settings) as second:
        folder, used = Path(name), 0

        def work(stations: Sequence[Station], on: Sequence[int]) -> Path:
            nonlocal used
            used += 1
            store = folder / str(used)
            for station in stations:
                station.begin(store, on, chunks)
            for station in stations:
                station.wait()
            return store

        contestants = {
            "one": lambda: work([first], cores[:1]),
            "two": lambda: work([first, second], cores[:2]),
        }
        timings = alternate(contestants, chunks * CHUNK, repeats)
        one, two = (
            {p.name: p.read_bytes() for p in timings.outcomes[way].rglob("*.safetensors")}
            for way in contestants
        )
        if one != two or len(one) != chunks:
            raise SkiptuneError("two processes left other bits than one")
    return {
        "aim": AIM,
        "chunks": chunks,
        "repeats": repeats,
        "images_per_second": {way: timings.rate(way) for way in contestants},
        "speedup": timings.ratio("two", "one"),
        "provenance": provenance("cpu"),
    }


class Station:
    """A process that fills run stores when told to."""

    def __init__(self, settings: SamplingSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(settings, theirs), daemon=True)

    def __enter__(self) -> Station:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def begin(self, store: Path, cores: Sequence[int], chunks: int) -> None:
        self._pipe.send((store, tuple(cores), chunks))

    def wait(self) -> None:
        """Until it is done. Raises SkiptuneError if it failed."""
        try:
            answer = self._pipe.recv()
        except EOFError:
            answer = "it ended"
        if answer:
            raise SkiptuneError(f"a process of the benchmark failed: {answer}")


def _serve(settings: SamplingSettings, pipe: Connection) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    while True:
        root, cores, chunks = pipe.recv()
        os.sched_setaffinity(0, cores)
        store = RunStore(root)
        run = open_run(settings, store)
        tasks = [SharedChunk((SeedChunk(run, settings, i),)) for i in range(chunks)]
        try:
            with one_thread():
                fill(tasks, store, Workers(1), "scaling", chunks * CHUNK)
            pipe.send("")
        except SkiptuneError as error:
            pipe.send(str(error))


def predicted(
    config: TableConfig, scale: Scale, workers: Sequence[int], tflops: float, metric_seconds: float
) -> dict[str, Any]:
    """The schedule of a table for several numbers of workers."""
    chunks = table_chunks(config, scale, tflops)
    rows = [metric_seconds] * len(config.rows_at(scale.name))
    found = {n: schedule(chunks, n, rows) for n in workers}
    return {
        "table": f"{config.paper}/{config.number}",
        "scale": scale.name,
        "tflops": tflops,
        "metric_seconds": metric_seconds,
        "chunks": len(chunks),
        "workers": {str(n): {"seconds": one.seconds, "idle": one.idle} for n, one in found.items()},
    }


def render_scaling(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    rate, future = report["images_per_second"], report["predicted"]
    verdict = "met" if report["speedup"]["median"] >= report["aim"] else "missed"
    lines = [
        "# Scaling",
        "",
        f"{made_on(report['provenance'])}; {report['chunks']} chunks of {CHUNK} images, {report['repeats']} "
        "alternating repeats: median [lowest, highest]. Both leave the same bits.",
        "",
        "| processes | cores | images/s |",
        "| ---: | ---: | ---: |",
        f"| 1 | 1 | {rate['one']:.1f} |",
        f"| 2, one run store | 2 | {rate['two']:.1f} |",
        "",
        f"Two against one: {spread(report['speedup'])} times; aim {report['aim']}: {verdict}.",
        "",
        f"## {future['table']} at scale {future['scale']}, simulated",
        "",
        f"{future['chunks']} chunks whose seconds follow from operation counts at {future['tflops']:g} "
        f"TFLOP/s sustained a worker, and {future['metric_seconds']:g} s of metrics a row at the end; "
        "start-up and the feature pass not counted. An estimate: nothing of it was run.",
        "",
        "| workers | minutes | idle share |",
        "| ---: | ---: | ---: |",
        *(f"| {n} | {one['seconds'] / 60:.1f} | {one['idle']:.1%} |" for n, one in future["workers"].items()),
    ]
    return "\n".join(lines) + "\n"
