"""The columns of a measured table and the texts of its cells: ours beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        kind: "label", "setting", "nfe", or "here" or "paper" of a metric, alone, or with "ratio" or "gain".
        key: of the setting or metric; of a gain here its own, in the paper that of its metric.
    """

    text: str
    kind: str
    key: str = ""


@dataclass(frozen=True)
class Sheet:
    """A table as rendered, or one of its parts; ``rows`` have a text for every heading."""

    title: str
    head: list[Heading]
    rows: list[list[str]]


def sheets(result: TableResult, config: TableConfig) -> list[Sheet]:
    """The table; or its parts, in their order, each with the rows of its arms and the columns it names."""
    every = [column for column in config.columns if column.shown]
    if not config.parts:
        return [_sheet("", every, config.rows, result.rows, result, config)]
    found = []
    for part in config.parts:
        sources = [row for row in config.rows if part.has(row)]
        labels = {row.label for row in sources}
        rows = [row for row in result.rows if row.label in labels]
        columns = [column for column in every if column.key in part.columns]
        found.append(_sheet(part.title, columns, sources, rows, result, config))
    return found


def ratio_shown(config: TableConfig) -> bool:
    """Whether the text of the table has a column of ratios to the baseline."""
    return any(_shown(column, config.rows)[0] for column in config.columns if column.shown)


def _sheet(
    title: str,
    columns: Sequence[ColumnConfig],
    sources: Sequence[RowConfig],
    rows: Sequence[RowResult],
    result: TableResult,
    config: TableConfig,
) -> Sheet:
    head = [Heading("row", "label")]
    for column in columns:
        head += _head(column, sources, result.scale)
    by_label = {row.label: row for row in sources}
    texts = [
        [
            row.label,
            *(
                text
                for column in columns
                for text in _texts(column, row, by_label.get(row.label), sources, result, config)
            ),
        ]
        for row in rows
    ]
    return Sheet(title, head, texts)


def _shown(column: ColumnConfig, rows: Sequence[RowConfig]) -> tuple[bool, bool]:
    """Whether some row has a baseline to be divided by, and whether some row has a value of the paper."""
    if column.kind not in ("metric", "gain"):
        return False, False
    baselines = any(row.baseline is not None for row in rows)
    metric = column.of or column.key
    return baselines and column.ratio and column.kind == "metric", any(metric in row.paper for row in rows)


def _head(column: ColumnConfig, rows: Sequence[RowConfig], scale: str) -> list[Heading]:
    """Of a metric up to four: ours, the paper's, each over its own baseline; of a gain two."""
    if column.kind in ("setting", "nfe"):
        return [Heading(column.title, column.kind, column.key)]
    ratio, paper = _shown(column, rows)
    here = f"{column.title} here ({scale} scale)" if paper else column.title
    gain = " gain" if column.kind == "gain" else ""
    shown = [
        (True, here, f"here{gain}", column.key),
        (ratio, "÷ baseline", "here ratio", column.key),
        (paper, f"{column.title} in the paper", f"paper{gain}", column.of or column.key),
        (ratio and paper, "÷ baseline", "paper ratio", column.key),
    ]
    return [Heading(text, kind, key) for there, text, kind, key in shown if there]


def _texts(
    column: ColumnConfig,
    row: RowResult,
    source: RowConfig | None,
    rows: Sequence[RowConfig],
    result: TableResult,
    config: TableConfig,
) -> list[str]:
    """The cells of a row in the columns of ``_head``."""
    if column.kind == "nfe":
        return [NONE if not row.nfe else str(row.nfe)]
    if column.kind == "setting":
        return [_plain(row.settings.get(column.key))]
    base = None if source is None or source.baseline is None else config.row(source.baseline)
    measured = None if base is None else result.row(base.label)
    ratio, paper = _shown(column, rows)
    metric = column.of or column.key
    ours, theirs = row.values.get(column.key), row.paper.get(metric)
    ours_base = None if measured is None else measured.values.get(column.key)
    theirs_base = None if base is None else base.paper.get(metric)
    cells = [f"not run: {row.reason}" if row.status == "not run" else interval(ours, column)]
    if ratio:
        cells.append(_ratio(*(None if v is None else v.value for v in (ours, ours_base))))
    if paper and column.kind == "gain":
        gain = NONE if theirs is None or theirs_base is None else rounded(theirs - theirs_base, column.digits)
        cells.append(gain)
    elif paper:
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
    text = rounded(value.value, column.digits)
    if value.low is None or value.high is None:
        return text
    return f"{text} [{rounded(value.low, column.digits)}, {rounded(value.high, column.digits)}]"


def rounded(value: float, digits: int) -> str:
    """With that many digits, and no sign before zeros alone."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _ratio(value: float | None, base: float | None) -> str:
    return NONE if value is None or base is None or base <= 0 else f"{value / base:.3f}"


def _plain(value: Any) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)
