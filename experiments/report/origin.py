"""Where each number of a table comes from, as plain values for the page's script."""

from __future__ import annotations

from typing import Any

from experiments.report.entries import Entry
from experiments.tables.config import RowConfig
from experiments.tables.results import Provenance, RowResult, TableResult
from skiptune.runtime.store import Run, RunStore


def origins(entry: Entry, store: RunStore) -> dict[str, Any]:
    """Of every row: settings, values with their seeds, records; and the machines that the records name.

    A record that the store does not have (anybody's clone) is told by its id, and the table's own provenance.
    """
    assert entry.result is not None
    sources: dict[str, RowConfig] = {row.label: row for row in entry.config.rows}
    environments: list[dict[str, Any]] = [of_table(entry.result.provenance)]
    rows = [row_origin(row, sources.get(row.label), store, environments) for row in entry.result.rows]
    return {"rows": rows, "environments": environments, "baselines": baselines(entry.result, sources)}


def of_table(provenance: Provenance) -> dict[str, Any]:
    """The whole table's provenance, which holds for each of its records as far as is known."""
    return {
        "commit": provenance.commit,
        "device": provenance.device,
        "packages": dict(sorted(provenance.packages.items())),
    }


def row_origin(
    row: RowResult, source: RowConfig | None, store: RunStore, environments: list[dict[str, Any]]
) -> dict[str, Any]:
    """One row; environments that are new are added to the list, records name them by position."""
    return {
        "label": row.label,
        "nfe": row.nfe,
        "reason": row.reason,
        "settings": {key: value for key, value in row.settings.items() if value is not None},
        "values": {
            key: {**vars(value), "seeds": [list(block) for block in value.seeds], "images": value.images}
            for key, value in row.values.items()
        },
        "paper": dict(row.paper),
        "paper_settings": {} if source is None else dict(source.paper_settings),
        "records": [record_origin(id, store, environments) for id in row.record],
    }


def record_origin(id: str, store: RunStore, environments: list[dict[str, Any]]) -> dict[str, Any]:
    """A record, or a run of chunks, which has none of its own."""
    run = Run(id, store.root / "runs" / id, {})
    record = run.record()
    if record is None:
        return {"id": id, "chunks": True} if (run.folder / "chunks").is_dir() else {"id": id}
    where = record["provenance"]
    packages = {**where["packages"], "python": where["python"]} if "python" in where else where["packages"]
    environment = {
        "commit": where["commit"],
        "device": where["device"],
        "packages": dict(sorted(packages.items())),
    }
    if environment not in environments:
        environments.append(environment)
    return {
        "id": id,
        "environment": environments.index(environment),
        "started": where["started"],
        "seconds": record["seconds"],
        "images_per_second": record["images_per_second"],
    }


def baselines(result: TableResult, sources: dict[str, RowConfig]) -> dict[str, str]:
    """Label of a row -> label of the row that it is divided by."""
    by_id = {row.id: row.label for row in sources.values()}
    return {
        row.label: by_id[sources[row.label].baseline or ""]
        for row in result.rows
        if row.label in sources and sources[row.label].baseline is not None
    }
