"""What a table needs of the run store, and how far that is: nothing is computed, nothing is written.

What a table needs is named by the same hashes as when it is made, so a store on a shared file system shows
the work of everybody who computes with this code, these weights and this kind of device.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from experiments.fitting import with_fitting_batches
from experiments.measurement import Measurement, Result
from experiments.registry import kind_of
from experiments.scale import Scale
from experiments.tables.config import RowConfig, TableConfig
from experiments.wanted import best_value, grid_beside_one, grid_measurements, reported, seeded
from skiptune.errors import SkiptuneError
from skiptune.runtime.claims import claims_in
from skiptune.runtime.seed_chunks import CHUNK, chunk_numbers, open_run
from skiptune.runtime.store import Run, RunStore


@dataclass(frozen=True)
class Work:
    """The chunks that one row of a table needs of one run, and how far they are.

    Attributes:
        run: the run's id; None while it cannot be named: rho is not selected yet, or a file is missing.
        written: seconds since 1970 when each chunk was written; empty once a record makes them needless.
        evaluations: network evaluations per chunk.
        rate: network evaluations per second when its record was made; None without a record that says.
        running: chunks that a living process has claimed.
        failure: why the run's last attempt failed, if it did.
    """

    run: str | None
    model: str
    needed: frozenset[int]
    done: frozenset[int]
    recorded: bool
    evaluations: float
    written: Mapping[int, float] = field(default_factory=dict)
    rate: float | None = None
    running: frozenset[int] = frozenset()
    failure: str | None = None

    @property
    def left(self) -> frozenset[int]:
        return self.needed - self.done


def work_of(config: TableConfig, scale: Scale, store: RunStore) -> tuple[list[Work], str]:
    """What the table needs, and what keeps it from being named here (empty if nothing does).

    Raises:
        SkiptuneError: the configuration names what does not exist.
    """
    scale, found, problem = seeded(scale, config), list[Work](), ""
    with contextlib.suppress(SkiptuneError):  # said of its rows
        scale = with_fitting_batches(scale, config.rows_at(scale.name), store, computes=False)
    for row in config.rows_at(scale.name):
        try:
            found += row_work(row, config, scale, store)
        except SkiptuneError as error:
            kind_of(row)  # an unknown kind is no matter of this machine
            problem = problem or str(error)
            searches = len({*grid_beside_one(config, row), 1.0}) if row.tuned else 0
            found += [unnamed(row, scale, len(scale.select.seeds)) for _ in range(searches)]
            found.append(unnamed(row, scale, report_images(row, scale)))
    return found, problem


def row_work(row: RowConfig, config: TableConfig, scale: Scale, store: RunStore) -> list[Work]:
    """The search of a row, if it has one, and what it reports. Raises SkiptuneError as ``reported``."""
    tried = grid_measurements(row, config, scale) if row.tuned else {}
    searched = [seen(one, row, scale, store) for one in tried.values()]
    chosen = selection(config, tried, store)
    if row.tuned and chosen is None:
        return [*searched, unnamed(row, scale, report_images(row, scale))]
    return [*searched, *(seen(one, row, scale, store) for one in reported(row, config, scale, chosen))]


def selection(config: TableConfig, tried: Mapping[float, Measurement], store: RunStore) -> float | None:
    """The value that the stored records of a search select; None while one of them is missing."""
    if not tried:
        return None
    assert config.tuning is not None
    values = {}
    for value, measurement in tried.items():
        run = store.open(measurement.identity)
        record = run.record()
        if record is None:
            return None
        values[value] = Result.read(run.id, record).value(config.tuning.metric)
    return best_value(config, values)


def seen(measurement: Measurement, row: RowConfig, scale: Scale, store: RunStore) -> Work:
    """A measurement as the store knows it."""
    run, numbers = open_run(measurement.settings, store), frozenset(chunk_numbers(measurement.blocks.seeds))
    record = store.open(measurement.identity).record()
    model = scale.role(row.role).model["name"]
    if record is not None:
        speed, nfe = record["images_per_second"], record["nfe"]
        rate = speed * nfe if speed and nfe else None
        return Work(run.id, model, numbers, numbers, True, CHUNK * nfe, rate=rate)
    written = {number: when for number, when in chunk_times(run.folder).items() if number in numbers}
    evaluations = CHUNK * kind_of(row).evaluations(scale, row)
    running = claimed(run) & numbers - frozenset(written)
    done = frozenset(written)
    return Work(
        run.id, model, numbers, done, False, evaluations, written, running=running, failure=run.failure()
    )


def claimed(run: Run) -> frozenset[int]:
    """The chunks that living processes have claimed, by this machine's clock."""
    latest = {claim.target: claim for claim in claims_in(run.folder / "chunks")}
    alive = [target for target, claim in latest.items() if not claim.is_dead(time.time())]
    return frozenset(int(target.split(".")[0]) for target in alive if target.endswith(".safetensors"))


def unnamed(row: RowConfig, scale: Scale, images: int) -> Work:
    """The work of a row whose run cannot be named yet."""
    evaluations = CHUNK * kind_of(row).evaluations(scale, row)
    numbers = frozenset(range(-(-images // CHUNK)))  # the last chunk may be used in part
    return Work(None, scale.role(row.role).model["name"], numbers, frozenset(), False, evaluations)


def report_images(row: RowConfig, scale: Scale) -> int:
    """How many images a row reports on."""
    images = kind_of(row).images
    return len(scale.report.seeds) if images is None else images(scale, row)


def chunk_times(folder: Path) -> dict[int, float]:
    """When each chunk of a run was written; one look at its folder."""
    try:
        entries = [entry for entry in os.scandir(folder / "chunks") if entry.name.endswith(".safetensors")]
        return {
            int(entry.name.split(".")[0]): entry.stat().st_mtime for entry in entries if entry.name[0] != "."
        }
    except OSError:  # no chunk yet, or removed while we look
        return {}
