"""Puts a table into results/<scale>/<paper>/ and keeps the index of all tables up to date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.tables.config import KINDS, PAPERS, SCALES, TableConfig
from experiments.tables.notes import Roles
from experiments.tables.render import render_csv, render_markdown
from experiments.tables.results import ClaimResult, TableResult
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import write_atomic

HEAD = ("| table | verdicts | rows measured | date |", "| --- | --- | ---: | --- |")


def write_table(
    result: TableResult,
    config: TableConfig,
    roles: Roles,
    results: Path,
    figures: Sequence[tuple[str, str]] = (),
) -> Path:
    """Writes table_NN.{md,csv,json} below `results` and the index; returns the Markdown file.

    The result is checked before anything is written. Raises SkiptuneError if it breaks the contract, belongs
    to another table, or names a figure that is not there.
    """
    if (result.paper, result.kind, result.number) != (config.paper, config.kind, config.number):
        theirs = f"{result.paper} {result.kind} {result.number}"
        raise SkiptuneError(f"the result of {theirs} does not belong to {config.paper}/{config.name}")
    folder = table_folder(results, result.scale, result.paper)
    for name, _ in figures:
        if not (folder / name).is_file():
            raise SkiptuneError(f"figure {folder / name} is missing; write the figures before the table")
    texts = {
        "json": result.to_json(),
        "csv": render_csv(result),
        "md": render_markdown(result, config, roles, figures),
    }
    for suffix, text in texts.items():
        write_atomic(folder / f"{config.name}.{suffix}", text)
    write_atomic(results / "README.md", render_index(results))
    return folder / f"{config.name}.md"


def table_folder(results: Path, scale: str, paper: str) -> Path:
    """Where the files of a paper's tables live: results/<scale>/<paper>."""
    return results / scale / paper


def render_index(results: Path) -> str:
    """Markdown index of all that was made below `results`; depends on the content of the files only."""
    lines = [
        "# Results",
        "",
        "Every number here comes from a stored run record whose hash is in the table's JSON. Desk tables ask "
        "whether a claim holds on small models; their metrics are not comparable in value with a paper's.",
    ]
    for scale in SCALES:
        for paper in PAPERS:
            folder = table_folder(results, scale, paper)
            files = [file for kind in KINDS for file in sorted(folder.glob(f"{kind}_*.json"))]
            if files:
                lines += ["", f"## {PAPERS[paper]}, {scale} scale", "", *HEAD]
                lines += [_index_line(file, results) for file in files]
    return "\n".join([*lines, ""])


def _index_line(file: Path, results: Path) -> str:
    result = TableResult.from_json(file.read_text(encoding="utf-8"), str(file))
    page = file.with_suffix(".md")
    first = page.read_text(encoding="utf-8").partition("\n")[0] if page.is_file() else file.stem
    heading = first.removeprefix("# ")
    verdicts = "; ".join(_verdict(claim) for claim in result.claims) or "no claim"
    measured = sum(row.status == "measured" for row in result.rows)
    link = page.relative_to(results).as_posix()
    date = result.provenance.started[:10]
    return f"| [{heading}]({link}) | {verdicts} | {measured} of {len(result.rows)} | {date} |"


def _verdict(claim: ClaimResult) -> str:
    """The verdict with its effect and what the test says first, so that "supported" cannot stand alone."""
    if claim.effect is None:
        return f"{claim.id} {claim.verdict}"
    interval = "" if claim.low is None else f" [{claim.low:.3g}, {claim.high:.3g}]"
    said = claim.test.partition(". Ratio")[0] + "; weakest effect" if ". Ratio" in claim.test else "effect"
    return f"{claim.id} {claim.verdict}: {said} {claim.effect:.3g}{interval}"
