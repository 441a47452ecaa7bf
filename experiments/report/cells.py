"""The cells of a table's page: their text, parted into value and interval, and what a click asks about."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.report.entries import Entry
from experiments.tables.cells import NONE, Heading, body, headings


@dataclass(frozen=True)
class Cell:
    """One cell: a text in two parts; ``asks``: whether it is a number, whose provenance can be asked for."""

    heading: Heading
    value: str
    interval: str = ""

    @property
    def asks(self) -> bool:
        return self.heading.kind not in ("label", "setting", "nfe") and self.value != NONE

    @property
    def title(self) -> str:
        """What stands before the value where the columns have no head, on a narrow screen."""
        ratio = {"here ratio": "here ÷ baseline", "paper ratio": "paper ÷ baseline"}
        return ratio.get(self.heading.kind, self.heading.text)


@dataclass(frozen=True)
class Row:
    """One row. ``kind``: "baseline" if others are divided by it, "floor" for real images, else ""."""

    label: str
    kind: str
    cells: tuple[Cell, ...]


def table_rows(entry: Entry) -> list[Row]:
    """The rows of the table's page, without the label among the cells."""
    assert entry.result is not None
    head = headings(entry.result, entry.config)
    bases = {entry.config.row(row.baseline).label for row in entry.config.rows if row.baseline}
    floors = {row.label for row in entry.result.floors}
    rows = []
    for label, *texts in body(entry.result, entry.config):
        cells = tuple(cell(heading, text) for heading, text in zip(head[1:], texts, strict=True))
        kind = "floor" if label in floors else "baseline" if label in bases else ""
        rows.append(Row(label, kind, cells))
    return rows


def cell(heading: Heading, text: str) -> Cell:
    """A text such as "1.5 [1.2, 1.8]" in its two parts."""
    value, bracket, rest = text.partition(" [")
    is_interval = heading.kind == "here" and bracket and rest.endswith("]")
    return Cell(heading, value, f"[{rest}") if is_interval else Cell(heading, text)
