"""The columns of a measured table and the texts of its cells: ours beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.tables.config import ColumnConfig, RowConfig, TableConfig
from experiments.tables.results import RowResult, TableResult
from experiments.values import Value

NONE = "–"


@dataclass(frozen=True)
class Heading:
    """A column as rendered.

    Attributes:
        kind: "label", "setting", "nfe", or of a metric "here", "here ratio", "paper", "paper ratio".
        key: of the setting or metric.
    """

    text: str
    kind: str
    key: str = ""


def headings(result: TableResult, config: TableConfig) -> list[Heading]:
    """The columns. A metric becomes up to four: ours, the paper's, each over its own baseline."""
    head = [Heading("row", "label")]
    for column in shown(config):
        plain = [Heading(column.title, column.kind, column.key)]
        head += _metric_head(column, result, config) if column.kind == "metric" else plain
    return head


def body(result: TableResult, config: TableConfig) -> list[list[str]]:
    """The texts of the cells, one list a row, in the order of ``headings``."""
    by_label = {row.label: row for row in config.rows}
    return [_row_cells(row, by_label.get(row.label), result, config) for row in result.rows]


def shown(config: TableConfig) -> list[ColumnConfig]:
    """The columns of the table's text."""
    return [column for column in config.columns if column.shown]


def _shown(column: ColumnConfig, config: TableConfig) -> tuple[bool, bool]:
    """Whether some row has a baseline to be divided by, and whether some row has a value of the paper."""
    baselines = any(row.baseline is not None for row in config.rows)
    return baselines and column.ratio, any(column.key in row.paper for row in config.rows)


def _metric_head(column: ColumnConfig, result: TableResult, config: TableConfig) -> list[Heading]:
    ratio, paper = _shown(column, config)
    here = f"{column.title} here ({result.scale} scale)" if paper else column.title
    shown = [
        (True, here, "here"),
        (ratio, "÷ baseline", "here ratio"),
        (paper, f"{column.title} in the paper", "paper"),
        (ratio and paper, "÷ baseline", "paper ratio"),
    ]
    return [Heading(text, kind, column.key) for there, text, kind in shown if there]


def _row_cells(
    row: RowResult, source: RowConfig | None, result: TableResult, config: TableConfig
) -> list[str]:
    base = None if source is None or source.baseline is None else config.row(source.baseline)
    measured = None if base is None else result.row(base.label)
    cells = [row.label]
    for column in shown(config):
        if column.kind == "nfe":
            cells.append(NONE if not row.nfe else str(row.nfe))
        elif column.kind == "setting":
            cells.append(_plain(row.settings.get(column.key)))
        else:
            ratio, paper = _shown(column, config)
            ours, theirs = row.values.get(column.key), row.paper.get(column.key)
            ours_base = None if measured is None else measured.values.get(column.key)
            theirs_base = None if base is None else base.paper.get(column.key)
            cells.append(f"not run: {row.reason}" if row.status == "not run" else interval(ours, column))
            if ratio:
                values = (None if v is None else v.value for v in (ours, ours_base))
                cells.append(_ratio(*values))
            if paper:
                mark = "?" if source is not None and column.key in suspect(source) else ""
                cells.append(NONE if theirs is None else f"{theirs:.{column.digits}f}{mark}")
            if ratio and paper:
                cells.append(_ratio(theirs, theirs_base))
    return cells


def suspect(row: RowConfig) -> Mapping[str, float]:
    """The paper's cells of a row that look wrong, with the value that they should have."""
    found: Mapping[str, float] = row.paper_settings.get("suspect", {})
    return found


def interval(value: Value | None, column: ColumnConfig) -> str:
    if value is None:
        return NONE
    d = column.digits
    text = f"{value.value:.{d}f}"
    return text if value.low is None else f"{text} [{value.low:.{d}f}, {value.high:.{d}f}]"


def _ratio(value: float | None, base: float | None) -> str:
    return NONE if value is None or base is None or base <= 0 else f"{value / base:.3f}"


def _plain(value: Any) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)
