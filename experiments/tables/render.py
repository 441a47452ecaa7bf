"""A measured table as Markdown, CSV and terminal text: ours beside the paper's, with interval and verdict."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.tables.config import PAPERS, ColumnConfig, RowConfig, TableConfig
from experiments.tables.results import FLOOR, ClaimResult, RowResult, TableResult
from experiments.values import Value
from skiptune.evaluation.metrics import get_metric
from skiptune.evaluation.protocols import get_protocol, resize_rule

Roles = Mapping[str, Mapping[str, str]]  # role -> what played it: model, data, features
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


def render_markdown(
    result: TableResult, config: TableConfig, roles: Roles, figures: Sequence[tuple[str, str]] = ()
) -> str:
    """The table as Markdown.

    Args:
        roles: what played each role of the table: role -> {"model": ..., "data": ..., "features": ...}.
        figures: (file name beside the table, caption) of each figure to show.
    """
    head, rows = _cells(result, config)
    lines = [
        f"# {title(config)}",
        "",
        f"{PAPERS[config.paper]}. **{result.scale.capitalize()} scale.**",
        "",
        *(f"- {line}" for line in setting(result, config, roles)),
        "",
        _markdown_line(head),
        _markdown_line(["---", *("---:" for _ in head[1:])]),
        *(_markdown_line(cells) for cells in rows),
        "",
        *(f"- {line}" for line in notes(result, config)),
    ]
    if result.claims:
        lines += ["", "## Claims", ""]
        for claim in result.claims:
            lines += [
                f"**{claim.id}: {claim.verdict}.** {_statement(config, claim)}",
                "",
                f"{claim.test}",
                "",
            ]
        lines.pop()
    for name, caption in figures:
        lines += ["", f"![{caption}]({name})", "", f"*{caption}*"]
    return "\n".join([*lines, "", "---", _provenance(result), ""])


def render_text(result: TableResult, config: TableConfig, roles: Roles) -> str:
    """The same as aligned plain text, for a terminal."""
    head, rows = _cells(result, config)
    widths = [max(len(cells[i]) for cells in [head, *rows]) for i in range(len(head))]

    def aligned(cells: Sequence[str]) -> str:
        texts = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(texts).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [
        f"{title(config)}  [{result.scale} scale]",
        *(f"  {line}" for line in setting(result, config, roles)),
        "",
    ]
    lines += [aligned(head), rule, *(aligned(cells) for cells in rows), rule]
    lines += [f"  {line}" for line in notes(result, config)]
    lines += [f"  {claim.id}: {claim.verdict}. {claim.test}" for claim in result.claims]
    return "\n".join([*lines, f"  {_provenance(result)}", ""]).replace("**", "")


def render_csv(result: TableResult) -> str:
    """One line a row, numbers in full precision, seed blocks (first-last) and hashes separated by spaces."""
    settings = _names(row.settings for row in result.rows)
    metrics = _names({**row.values, **row.paper} for row in result.rows)
    parts = ("", "_low", "_high", "_n", "_seeds", "_paper")
    names = [
        "label",
        *settings,
        "nfe",
        *(m + part for m in metrics for part in parts),
        "status",
        "reason",
        "record",
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in result.rows:
        cells: list[Any] = [row.label, *(row.settings.get(key) for key in settings), row.nfe]
        for metric in metrics:
            value = row.values.get(metric)
            cells += (
                [None] * 5 if value is None else [value.value, value.low, value.high, value.n, _seeds(value)]
            )
            cells.append(row.paper.get(metric))
        writer.writerow([*cells, row.status, row.reason, " ".join(row.record)])
    return out.getvalue()


def title(config: TableConfig) -> str:
    return f"{config.heading}: {config.title}"


def _cells(result: TableResult, config: TableConfig) -> tuple[list[str], list[list[str]]]:
    return [heading.text for heading in headings(result, config)], body(result, config)


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
            cells.append(f"not run: {row.reason}" if row.status == "not run" else _interval(ours, column))
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


def _suspects(result: TableResult, config: TableConfig) -> list[str]:
    """What the marked cells of the paper should say."""
    titles = {column.key: (column.title, column.digits) for column in config.columns}
    found = [
        f"{row.label}, {titles[key][0]}: {value:.{titles[key][1] + 1}f}"
        for row in config.rows_at(result.scale)
        for key, value in suspect(row).items()
    ]
    return [f"? printed so, but at odds with its table; probably {'; '.join(found)}"] if found else []


def setting(result: TableResult, config: TableConfig, roles: Roles) -> list[str]:
    """What was measured, and why it may or may not be compared with the paper's column."""
    lines = []
    for role in _names({row.role: None} for row in config.rows_at(result.scale)):
        played = "; ".join(f"{key}: {value}" for key, value in roles.get(role, {}).items())
        lines.append(f"`{role}` here: {played or 'not stated'}")
    lines.append(f"the paper's column: {config.dataset}")
    if result.scale == "desk":
        lines.append(
            "desk metrics live in the space of the desk features on desk data: **not comparable in absolute "
            "value with the paper's**; compare the ratios to the baseline"
        )
    return lines


def notes(result: TableResult, config: TableConfig) -> list[str]:
    """The floor and how to read the intervals."""
    notes = []
    for column in config.columns:
        for row in result.floors:
            floor = row.values.get(column.key)
            if floor is None:
                continue
            lower = get_metric(column.key).lower_is_better
            of = f" of `{row.label.removeprefix(FLOOR + ', ')}`" if len(result.floors) > 1 else ""
            text = f"between real images{of} and the reference {column.title} is {_interval(floor, column)}"
            best, room = ("lowest", "below") if lower else ("highest", "above")
            notes.append(f"floor: {text}, about the {best} value to expect of a perfect model")
            if at_floor := _at_floor(result, column.key, row, lower):
                notes.append(f"rows at the floor, with little room {room}: {at_floor}")
    groups = _names(
        {(v.n, v.images): None}
        for row in result.rows
        if row not in result.floors and "unit" not in row.settings
        for v in row.values.values()
        if v.n == 1 or v.low is not None  # what a protocol makes without an interval is said below
    )
    for n, images in groups:
        if n > 1:
            notes.append(
                f"values are means over {n} seed blocks of {images // n:,} images each, [ ] are 95% intervals"
            )
        else:
            notes.append(f"values are from one block of {images:,} images, without an interval")
    for unit in _names({row.settings["unit"]: None} for row in result.rows if "unit" in row.settings):
        of_unit = [row for row in result.rows if row.settings.get("unit") == unit]
        counts = sorted({value.n for row in of_unit for value in row.values.values()})
        counted = " or ".join(str(count) for count in counts)
        notes.append(f"values are means over {counted} {unit}, [ ] are 95% t intervals over {unit}")
    return [*notes, *_suspects(result, config), *_protocols(result)]


def _protocols(result: TableResult) -> list[str]:
    """How values of generated images were made, once per protocol and extractor."""
    made: dict[tuple[str, str], Value] = {}
    for row in result.rows:
        if "protocol" in row.settings and row.values:
            made.setdefault(
                (row.settings["protocol"], row.settings["features"]), next(iter(row.values.values()))
            )
    lines = []
    for (name, features), value in made.items():
        done = get_protocol(name).describe(value.n, value.images // value.n)
        lines.append(f"protocol {done}; uint8 images; resize of {features}: {resize_rule(features)}")
    return lines


def _at_floor(result: TableResult, metric: str, floor: RowResult, lower_is_better: bool) -> str:
    """Labels of the rows of the floor's roles whose interval meets the floor's or lies beyond it."""
    rows = [row for row in result.rows if metric in row.values and row not in result.floors]
    rows = [row for row in rows if row.settings.get("role") in floor.settings["role"].split(", ")]
    low, high = _ends(floor.values[metric])
    beyond = [
        row.label
        for row in rows
        for own_low, own_high in [_ends(row.values[metric])]
        if (own_low <= high if lower_is_better else own_high >= low)
    ]
    return ", ".join(beyond)


def _ends(value: Value) -> tuple[float, float]:
    """The interval, or the value twice where there is none."""
    low, high = value.low, value.high
    return value.value if low is None else low, value.value if high is None else high


def _provenance(result: TableResult) -> str:
    p = result.provenance
    packages = ", ".join(f"{name} {version}" for name, version in sorted(p.packages.items()))
    records = sum(len(row.record) for row in result.rows)
    return (
        f"Commit {p.commit}; {p.device}; {packages}; started {p.started}, {p.seconds:,.0f} s; "
        f"{records} run records (hashes in the JSON beside this file)."
    )


def _statement(config: TableConfig, claim: ClaimResult) -> str:
    return next((known.statement for known in config.claims if known.id == claim.id), "")


def _interval(value: Value | None, column: ColumnConfig) -> str:
    if value is None:
        return NONE
    d = column.digits
    text = f"{value.value:.{d}f}"
    return text if value.low is None else f"{text} [{value.low:.{d}f}, {value.high:.{d}f}]"


def _ratio(value: float | None, base: float | None) -> str:
    return NONE if value is None or base is None or base <= 0 else f"{value / base:.3f}"


def _plain(value: Any) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _seeds(value: Value) -> str:
    return " ".join(f"{first}-{last}" for first, last in value.seeds)


def _names(mappings: Any) -> list[Any]:
    """The keys of all mappings in order of first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
