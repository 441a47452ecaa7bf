"""Writes the report: an overview, a page a table, the state of the run store, one style sheet, one script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from experiments.report.cells import grids
from experiments.report.entries import Entry
from experiments.report.origin import origins
from experiments.report.overview import MARKS, WORDS, Chapter, chapters, effect_text, interval_text
from experiments.status.of_tables import TableStatus
from experiments.status.text import clock, reasons
from experiments.tables.config import PAPERS
from experiments.tables.notes import notes, setting, title
from skiptune.runtime.files import write_atomic
from skiptune.runtime.store import RunStore

HERE = Path(__file__).parent
ASSETS = ("report.css", "report.js")


def build(
    folder: Path,
    entries: Sequence[Entry],
    statuses: Mapping[str, Sequence[TableStatus]],
    store: RunStore,
) -> Path:
    """Write the pages into a folder; returns the overview.

    Args:
        entries: the tables of all scales.
        statuses: of the same tables in the run store, by scale.
        store: its records tell where a number was computed; for others their table does.

    Raises:
        SkiptuneError: the folder cannot be written, or a record is damaged.
    """
    pages, parts = environment(), chapters(entries)
    made = [entry for entry in entries if entry.result is not None]
    shared = {"chapters": parts, "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
    texts = {
        "index.html": pages.get_template("index.html").render(**shared, count=len(made)),
        "status.html": pages.get_template("status.html").render(**shared, stores=stores(statuses)),
    }
    for i, entry in enumerate(made):
        around = {"before": made[i - 1] if i else None, "after": made[i + 1] if i + 1 < len(made) else None}
        values = {**shared, **around, **table_values(entry, store)}
        texts[entry.page] = pages.get_template("table.html").render(**values)
    for name in ASSETS:
        texts[name] = (HERE / "assets" / name).read_text(encoding="utf-8")
    for name, text in texts.items():
        write_atomic(folder / name, text)
    for picture in (picture for entry in made for picture in entry.pictures):
        write_atomic(folder / picture.name, picture.source.read_bytes())
    return folder / "index.html"


def environment() -> Environment:
    """Templates that escape what they are given and refuse unknown names."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"heading": lambda entry: title(entry.config), "effect": effect_text}
    made.filters |= {"interval": interval_text, "clock": clock, "bold": bold}
    made.globals |= {"MARKS": MARKS, "WORDS": WORDS, "PAPERS": PAPERS}
    return made


def table_values(entry: Entry, store: RunStore) -> dict[str, Any]:
    """What the page of a table shows."""
    result, config = entry.result, entry.config
    assert result is not None
    statements = {claim.id: claim.statement for claim in config.claims}
    return {
        "entry": entry,
        "chapter": Chapter(config.paper, entry.scale, (entry,)),
        "grids": grids(entry),
        "settings": setting(result, config, entry.roles or {}),
        "notes": notes(result, config),
        "claims": [(claim, statements.get(claim.id, "")) for claim in result.claims],
        "provenance": result.provenance,
        "origins": island(origins(entry, store)),
    }


def stores(statuses: Mapping[str, Sequence[TableStatus]]) -> dict[str, dict[str, Any]]:
    """What the page of the run store shows, by scale: the first, and those of which something is there."""
    first = next(iter(statuses), None)
    return {
        scale: store_values(some)
        for scale, some in statuses.items()
        if scale == first or any(status.done for status in some)
    }


def store_values(statuses: Sequence[TableStatus]) -> dict[str, Any]:
    """One scale."""
    finished = sum(status.state == "done" for status in statuses)
    return {"statuses": statuses, "problems": reasons(statuses), "finished": finished}


def island(value: Any) -> str:
    """JSON that may stand in a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def bold(text: str) -> str:
    """A note without the marks of Markdown."""
    return text.replace("**", "").replace("`", "")
