"""Puts a table into results/<scale>/<paper>/ and keeps the index of all tables up to date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.tables.config import TableConfig
from experiments.tables.index import render_index, table_folder
from experiments.tables.notes import Roles
from experiments.tables.render import render_csv, render_markdown
from experiments.tables.results import TableResult
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import write_atomic


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
