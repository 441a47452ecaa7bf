"""The cells of a table's page: their text, parted into value and interval, and what a click asks about."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.report.entries import Entry
from experiments.tables.cells import NONE, Heading, sheets


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
    """One row.

    Attributes:
        kind: "baseline" if others are compared with it, "floor" for real images, else "".
        line: its number in the table's result.
    """

    label: str
    kind: str
    line: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Grid:
    """A table of a page: all of a result, or one of its parts with its title."""

    title: str
    head: tuple[Heading, ...]
    rows: tuple[Row, ...]


def grids(entry: Entry) -> list[Grid]:
    """The tables of the entry's page, without the label among the cells of a row."""
    assert entry.result is not None
    bases = {entry.config.row(row.baseline).label for row in entry.config.rows if row.baseline}
    floors = {row.label for row in entry.result.floors}
    lines = {row.label: line for line, row in enumerate(entry.result.rows)}
    found = []
    for sheet in sheets(entry.result, entry.config):
        rows = []
        for label, *texts in sheet.rows:
            cells = tuple(cell(heading, text) for heading, text in zip(sheet.head[1:], texts, strict=True))
            kind = "floor" if label in floors else "baseline" if label in bases else ""
            rows.append(Row(label, kind, lines[label], cells))
        found.append(Grid(sheet.title, tuple(sheet.head), tuple(rows)))
    return found


def cell(heading: Heading, text: str) -> Cell:
    """A text such as "1.5 [1.2, 1.8]" in its two parts."""
    value, bracket, rest = text.partition(" [")
    is_interval = heading.kind in ("here", "here gain") and bracket and rest.endswith("]")
    return Cell(heading, value, f"[{rest}") if is_interval else Cell(heading, text)
