"""The status of tables as text for a terminal and as plain values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.status.of_tables import TableStatus

HEAD = ("table", "state", "chunks", "of", "running", "failed", "missing", "measured", "of", "time left")


def render(statuses: Sequence[TableStatus]) -> str:
    """One line a table, totals, then what blocks tables, each reason once."""
    rows = [
        (
            status.table,
            status.state,
            *map(str, (status.done, status.chunks, status.running, status.failed, status.missing)),
            *map(str, (status.measured, status.measurements)),
            clock(status.seconds),
        )
        for status in statuses
    ]
    lines = aligned([HEAD, *rows])
    lines.insert(1, "-" * max(map(len, lines)))
    finished = sum(status.state == "done" for status in statuses)
    lines += ["", f"{finished} of {len(statuses)} tables done"]
    lines += [f"{what}: {', '.join(tables)}" for what, tables in reasons(statuses).items()]
    return "\n".join(lines)


def reasons(statuses: Sequence[TableStatus]) -> dict[str, list[str]]:
    """What keeps tables from being made -> which tables; each reason once, failures first."""
    found: dict[str, list[str]] = {}
    for status in statuses:
        for failure in status.failures:
            found.setdefault(f"failed: {failure}", []).append(status.table)
    for status in statuses:
        if status.problem:
            found.setdefault(f"blocked: {status.problem}", []).append(status.table)
    return found


def plain_values(statuses: Sequence[TableStatus]) -> list[dict[str, Any]]:
    """The same for programs; ``seconds`` is null where no rate is known."""
    return [{**vars(status), "missing": status.missing, "state": status.state} for status in statuses]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width: texts to the left, what begins with a digit and its head to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def clock(seconds: float | None) -> str:
    """Days, hours and minutes, as many as matter."""
    if seconds is None:
        return "unknown"
    if seconds == 0:
        return "–"
    minutes = max(1, round(seconds / 60))
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60:02d} min" if hours else f"{minutes} min"
