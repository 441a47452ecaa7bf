"""What an experiment tracker gets: a run per row of a table, a run of the whole table, all from its result.

A run's id is the hash of the records behind it, so the same result is the same run, on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.drawings.grid import grid
from experiments.tables.config import TableConfig
from experiments.tables.results import RowResult, TableResult
from experiments.values import Value
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.runtime.store import Run, RunStore, run_id
from skiptune.runtime.tracking import Picture, RunInfo, Tracker

TAG = 64  # letters at most


@dataclass(frozen=True)
class Tracked:
    """One run of a tracker.

    Attributes:
        images: the number behind its values: where they stand on the axis of curves.
        values: numbers by name; ``summary``: further final values, also texts.
        tables: (columns, rows) by name.
    """

    info: RunInfo
    images: int
    values: Mapping[str, float]
    summary: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]] = field(default_factory=dict)

    def hand_over(self, tracker: Tracker) -> bool:
        """Give all of it to an open tracker and close that; whether it was taken."""
        tracker.log(self.values, step=self.images)
        for name, picture in self.pictures.items():
            tracker.image(name, picture)
        for name, (columns, rows) in self.tables.items():
            tracker.table(name, columns, rows)
        tracker.summary({**self.values, **self.summary})
        return tracker.finish()


def table_run(result: TableResult, config: TableConfig, pictures: Mapping[str, Picture]) -> Tracked:
    """The table as a whole: its numbers and verdicts as tables, its figures."""
    records = [id for row in result.rows for id in row.record]
    info = RunInfo(
        id=run_id({"table": f"{result.paper}/{config.name}", "scale": result.scale, "records": records}),
        name=config.heading,
        group=group_of(result, config),
        job="table",
        tags=tags_of(result, config.name, "whole table"),
        config={"title": config.title, **where_of(result, config)},
    )
    statements = {claim.id: claim.statement for claim in config.claims}
    claims = [
        [
            claim.id,
            statements.get(claim.id, ""),
            claim.verdict,
            claim.effect,
            claim.low,
            claim.high,
            claim.test,
        ]
        for claim in result.claims
    ]
    head = ("claim", "statement", "verdict", "effect", "low", "high", "test")
    return Tracked(
        info,
        images=max((value.images for row in result.rows for value in row.values.values()), default=0),
        values={"rows": len(result.rows), "seconds": result.provenance.seconds},
        summary={f"verdict/{claim.id}": claim.verdict for claim in result.claims},
        pictures=pictures,
        tables={"results": results_table(result), **({"claims": (head, claims)} if claims else {})},
    )


def row_runs(result: TableResult, config: TableConfig, store: RunStore) -> list[Tracked]:
    """A run for each measured row, with its images from the store."""
    return [row_run(row, result, config, store) for row in result.rows if row.status == "measured"]


def row_run(row: RowResult, result: TableResult, config: TableConfig, store: RunStore) -> Tracked:
    """One row: settings, values with intervals, the paper's, NFE, images per second, its first images."""
    speed = recorded_speed(row.record, store)
    known = (row.settings.get(key) for key in ("arm", "sampler", "intervention", "model"))
    info = RunInfo(
        id=run_id({"row": row.label, "table": f"{result.paper}/{config.name}", "records": list(row.record)}),
        name=row.label,
        group=group_of(result, config),
        job="row",
        tags=tags_of(result, config.name, *(value for value in known if isinstance(value, str))),
        config={
            **row.settings,
            **where_of(result, config),
            "records": list(row.record),
            "seeds": {name: [list(block) for block in value.seeds] for name, value in row.values.items()},
        },
    )
    numbers = {key: number for name, value in row.values.items() for key, number in of_value(name, value)}
    numbers |= {f"{name}_paper": value for name, value in row.paper.items()}
    counted = {"nfe": float(row.nfe)} if row.nfe else {}
    speeds = {"images_per_second": speed} if speed is not None else {}
    return Tracked(
        info,
        images=max((value.images for value in row.values.values()), default=0),
        values=numbers | counted | speeds,
        pictures=first_images(row.record, row.values, store),
    )


def of_value(name: str, value: Value) -> list[tuple[str, float]]:
    """A metric with its interval, where it has one, and the number of blocks behind it."""
    found = [(name, value.value), (f"{name}_blocks", float(value.n))]
    if value.low is not None and value.high is not None:
        found += [(f"{name}_low", value.low), (f"{name}_high", value.high)]
    return found


def recorded_speed(records: Sequence[str], store: RunStore) -> float | None:
    """Images per second of the call that computed a row, if its record is in the store and says so."""
    record = Run(records[0], store.root / "runs" / records[0], {}).record() if records else None
    return None if record is None else record["images_per_second"]


def first_images(records: Sequence[str], values: Mapping[str, Value], store: RunStore) -> dict[str, Picture]:
    """The kept images of a row's first seeds as a grid, if its run made images and the store has them.

    Raises:
        SkiptuneError: the chunk is damaged.
    """
    if len(records) < 2 or not values:
        return {}
    run, number = (
        Run(records[1], store.root / "runs" / records[1], {}),
        next(iter(values.values())).seeds[0][0] // CHUNK,
    )
    chunk = run.read_chunk(number) if run.has_chunk(number) else {}
    return {"samples": grid(chunk["images"])} if "images" in chunk else {}


def results_table(result: TableResult) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: label, settings, NFE, each metric with its interval and the paper's value."""
    settings = list(dict.fromkeys(key for row in result.rows for key in row.settings))
    metrics = list(dict.fromkeys(key for row in result.rows for key in (*row.values, *row.paper)))
    columns = ["row", *settings, "nfe"]
    columns += [f"{metric}{part}" for metric in metrics for part in ("", "_low", "_high", "_paper")]
    rows = []
    for row in result.rows:
        cells: list[Any] = [row.label, *(cell(row.settings.get(key)) for key in settings), row.nfe]
        for metric in metrics:
            value = row.values.get(metric)
            cells += [None] * 3 if value is None else [value.value, value.low, value.high]
            cells.append(row.paper.get(metric))
        rows.append(cells)
    return columns, rows


def cell(value: Any) -> Any:
    """A setting as one cell: lists and mappings as JSON."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def group_of(result: TableResult, config: TableConfig) -> str:
    return f"{result.paper}/{config.name} {result.scale}"


def tags_of(result: TableResult, *more: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag[:TAG] for tag in (result.paper, f"{result.scale} scale", *more)))


def where_of(result: TableResult, config: TableConfig) -> dict[str, Any]:
    """Table and provenance, for a run's configuration."""
    found = result.provenance
    machine = {"commit": found.commit, "device": found.device, "packages": dict(found.packages)}
    return {"paper": result.paper, "table": config.name, "scale": result.scale, **machine}
