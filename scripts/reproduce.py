"""Reproduce a table: ``python scripts/reproduce.py table=skip_tuning/2 scale=desk``."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

import re
from pathlib import Path
from typing import Any

from experiments.cost import dry_run
from experiments.make_table import make_table
from experiments.scale import parse_scale, role_descriptions
from experiments.tables.config import parse_table
from experiments.tables.render import render_text
from experiments.tables.write import table_folder
from experiments.tracked import row_runs, table_run
from scripts.common import (
    CONFIGS,
    USER_ERROR,
    check_tracking,
    check_writable,
    command,
    complain,
    make_bench,
    track,
)
from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import world
from skiptune.runtime.tracking import Picture


@command("reproduce")
def main(config: dict[str, Any]) -> None:
    table = parse_table(config["table"], "table")
    with make_bench(config) as bench:
        scale = parse_scale(config, bench.device)
        if config["dry_run"]:
            if world().is_main:
                print(dry_run(table, scale))
            return
        results = Path(str(config["results"]))
        folder = table_folder(results, scale.name, table.paper)
        if world().is_main:
            # Whatever is wrong with these is said before hours of work, not after them.
            check_writable(folder)
            check_tracking(config)
        result = make_table(table, scale, bench, results)
    if not world().is_main:
        return
    pictures: dict[str, Picture] = {path.stem: path for path in sorted(folder.glob(f"{table.name}_*.png"))}
    track(config, [table_run(result, table, pictures), *row_runs(result, table, bench.store)])
    print(render_text(result, table, role_descriptions(table.rows_at(scale.name), scale)))
    for path in sorted(folder.glob(f"{table.name}*")):
        print(f"wrote {path}")


def normalised(arguments: list[str]) -> list[str]:
    """``table=skip_tuning/2`` as ``table=skip_tuning/02``, ``figure_4`` as ``figure_04``, also several.

    Raises SkiptuneError for a table that is not there.
    """
    key = "table="
    return [
        key + ",".join(map(table_file, argument.removeprefix(key).split(",")))
        if argument.startswith(key)
        else argument
        for argument in arguments
    ]


def table_file(name: str) -> str:
    """``<paper>/<NN>`` in ``configs/table``; ``figure_``, ``appendix_`` or ``supplement_`` may come first."""
    tables = Path(CONFIGS) / "table"
    match = re.fullmatch(r"(\w+)/(\w+)", name)
    if match is None:
        papers = ", ".join(sorted(path.name for path in tables.iterdir()))
        raise SkiptuneError(f"no table is called {name!r}: write table=PAPER/NUMBER; papers: {papers}")
    paper = match[1]
    number = re.sub(r"\d+$", lambda digits: digits[0].zfill(2), match[2])
    if not (tables / paper / f"{number}.yaml").is_file():
        known = ", ".join(path.stem.lstrip("0") for path in sorted((tables / paper).glob("*.yaml")))
        raise SkiptuneError(
            f"there is no table {match[2]} of {paper} yet; tables of this paper: {known or 'none'}"
        )
    return f"{paper}/{number}"


if __name__ == "__main__":
    try:
        sys.argv[1:] = normalised(sys.argv[1:])
    except SkiptuneError as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
    main()
