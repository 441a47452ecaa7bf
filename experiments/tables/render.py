"""A measured table as Markdown, CSV and terminal text, with intervals and verdicts."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from experiments.tables.cells import Sheet, sheets
from experiments.tables.config import PAPERS, TableConfig
from experiments.tables.notes import Roles, keys_of, notes, provenance, setting, title
from experiments.tables.results import ClaimResult, TableResult
from experiments.values import Value


def render_markdown(
    result: TableResult, config: TableConfig, roles: Roles, figures: Sequence[tuple[str, str]] = ()
) -> str:
    """The table as Markdown.

    Args:
        roles: what played each role of the table: role -> {"model": ..., "data": ..., "features": ...}.
        figures: (file name beside the table, caption) of each figure to show.
    """
    lines = [
        f"# {title(config)}",
        "",
        f"{PAPERS[config.paper]}. **{result.scale.capitalize()} scale.**",
        "",
        *(f"- {line}" for line in setting(result, config, roles)),
        "",
        *(line for sheet in sheets(result, config) for line in _markdown_sheet(sheet)),
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
    return "\n".join([*lines, "", "---", provenance(result), ""])


def render_text(result: TableResult, config: TableConfig, roles: Roles) -> str:
    """The same as aligned plain text, for a terminal."""
    lines = [
        f"{title(config)}  [{result.scale} scale]",
        *(f"  {line}" for line in setting(result, config, roles)),
    ]
    for sheet in sheets(result, config):
        lines += ["", *([sheet.title] if sheet.title else []), *_aligned_sheet(sheet)]
    lines += [f"  {line}" for line in notes(result, config)]
    lines += [f"  {claim.id}: {claim.verdict}. {claim.test}" for claim in result.claims]
    return "\n".join([*lines, f"  {provenance(result)}", ""]).replace("**", "")


def render_csv(result: TableResult) -> str:
    """One line a row, numbers in full precision, seed blocks (first-last) and hashes separated by spaces."""
    settings = keys_of(row.settings for row in result.rows)
    metrics = keys_of({**row.values, **row.paper} for row in result.rows)
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


def _markdown_sheet(sheet: Sheet) -> list[str]:
    head = [heading.text for heading in sheet.head]
    return [
        *([f"**{sheet.title}**", ""] if sheet.title else []),
        _markdown_line(head),
        _markdown_line(["---", *("---:" for _ in head[1:])]),
        *(_markdown_line(cells) for cells in sheet.rows),
        "",
    ]


def _aligned_sheet(sheet: Sheet) -> list[str]:
    head = [heading.text for heading in sheet.head]
    widths = [max(len(cells[i]) for cells in [head, *sheet.rows]) for i in range(len(head))]

    def aligned(cells: Sequence[str]) -> str:
        texts = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(texts).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return [aligned(head), rule, *(aligned(cells) for cells in sheet.rows), rule]


def _statement(config: TableConfig, claim: ClaimResult) -> str:
    return next((known.statement for known in config.claims if known.id == claim.id), "")


def _seeds(value: Value) -> str:
    return " ".join(f"{first}-{last}" for first, last in value.seeds)


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
