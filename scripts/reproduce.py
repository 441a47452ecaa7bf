"""Reproduce a table: ``python scripts/reproduce.py table=skip_tuning/2 scale=desk``."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__, "reproduce")  # before the imports that take seconds

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.bench import Bench
from experiments.config_files import choice_names
from experiments.cost import dry_run
from experiments.fitting import with_fitting_batches
from experiments.make_table import make_table, measure_floors, measure_rows
from experiments.roles import role_descriptions
from experiments.scale import Scale, named
from experiments.scale_config import parse_scale
from experiments.tables.config import RowConfig, TableConfig
from experiments.tables.index import table_folder
from experiments.tables.read import parse_table
from experiments.tables.render import render_text
from experiments.tracking.runs import row_runs, table_run
from experiments.wanted import seeded
from scripts.shared.common import (
    USER_ERROR,
    check_tracking,
    check_writable,
    command,
    complain,
    make_bench,
    track,
)
from scripts.shared.complaints import explained
from scripts.shared.tables import composed, take
from skiptune.errors import SkiptuneError, did_you_mean
from skiptune.runtime.distributed import world
from skiptune.runtime.provenance import device
from skiptune.runtime.tracking import Picture

ALL, EACH = "all", "rows=each"


@command("reproduce")
def main(config: dict[str, Any]) -> None:
    table = parse_table(config["table"], "table")
    with make_bench(config) as bench:
        scale = parse_scale(config, bench.device)
        rows = chosen_rows(config["rows"], table, scale.name)
        if config["dry_run"]:
            if world().is_main:
                print(dry_run(replace(table, rows=rows), scale))
            return
        bench.computes = config["compute"]
        if world().is_main and config["rows"] == ALL:
            check_outputs(config, table)
        # One for all rows of the table, also where they are jobs of their own.
        scale = with_fitting_batches(scale, table.rows_at(scale.name), bench.store, bench.computes)
        if config["rows"] != ALL:
            print_rows(rows, table, scale, bench)
            return
        results = Path(str(config["results"]))
        result = make_table(table, scale, bench, results)
    if not world().is_main:
        return
    files = sorted(table_folder(results, scale.name, table.paper).glob(f"{table.name}*"))
    if any(row.status == "not run" for row in result.rows):
        # No figure was drawn; there may be older ones.
        files = [path for path in files if path.suffix != ".png"]
    pictures: dict[str, Picture] = {path.stem: path for path in files if path.suffix == ".png"}
    track(config, [table_run(result, table, pictures), *row_runs(result, table, bench.store)])
    print(render_text(result, table, role_descriptions(table.rows_at(scale.name), scale)))
    for path in files:
        print(f"wrote {path}")


def check_outputs(config: dict[str, Any], table: TableConfig) -> None:
    """Raises SkiptuneError now for what would stop writing or tracking the table after hours of work."""
    check_writable(table_folder(Path(str(config["results"])), config["scale"]["name"], table.paper))
    check_tracking(config)


def chosen_rows(names: Any, table: TableConfig, scale: str) -> tuple[RowConfig, ...]:
    """The rows of that scale by id: one, several or all. Raises SkiptuneError for an unknown one, or none."""
    known = {row.id: row for row in table.rows_at(scale)}
    if names == ALL:
        return tuple(known.values())
    wanted = names if isinstance(names, list) else [names]
    if not wanted:
        raise SkiptuneError(f"rows names none: give some of {', '.join(known)}, or {ALL}")
    return tuple(named(name, known, f"row of {table.paper}/{table.name} at scale {scale}") for name in wanted)


def print_rows(rows: Sequence[RowConfig], table: TableConfig, scale: Scale, bench: Bench) -> None:
    """Measure some rows and their floors; a line of JSON for each row, no table."""
    found = measure_rows(rows, table, seeded(scale, table), bench)
    measure_floors(rows, found.measurements, bench)
    for id, result in found.results.items() if world().is_main else ():
        values = {
            name: result.share(name) if name in table.shares else result.value(name) for name in result.blocks
        }
        numbers = {name: {"value": v.value, "low": v.low, "high": v.high} for name, v in values.items()}
        print(
            json.dumps({"row": id, "record": result.record, "run": result.run, "values": numbers}), flush=True
        )


def each_row(arguments: list[str]) -> int:
    """The sweep that ``rows=each`` means, a job a row, then the table of what it left; returns an exit code.

    Several tables are made one after the other. A dry run starts nothing.

    Raises:
        SkiptuneError: as the configuration does; several values of something else than ``table``.
    """
    if world().size > 1:
        raise SkiptuneError(f"{EACH} starts processes of its own: start it without torchrun (and GPUS=)")
    rest = [argument for argument in arguments if argument not in ("-m", "--multirun", EACH)]
    names, others = take("table", rest, "")
    several = [[f"table={name}", *others] for name in names.split(",")] if names else [others]
    # Of all of them before the first is computed.
    configs = [composed_alone(unlaunched(settings)) for settings in several]
    tables = [parse_table(config["table"], "table") for config in configs]
    if configs[0]["dry_run"]:
        for config, table in zip(configs, tables, strict=True):
            print(dry_run(table, parse_scale(config, device(config["device"]).type)))
        return 0
    for config, table in zip(configs, tables, strict=True):
        check_outputs(config, table)
    code = 0
    for settings, config, table in zip(several, configs, tables, strict=True):
        ended = each_row_of(settings, [row.id for row in table.rows_at(config["scale"]["name"])])
        if ended not in (0, USER_ERROR):
            return ended
        code = max(code, ended)
    return code


def each_row_of(settings: list[str], ids: list[str]) -> int:
    """One table of ``each_row``; returns an exit code."""
    script = [sys.executable, os.path.realpath(__file__)]
    sweep = subprocess.call([*script, "-m", *settings, f"rows={','.join(ids)}"])
    if sweep not in (0, USER_ERROR):
        return sweep
    return max(sweep, subprocess.call([*script, *unlaunched(settings), "compute=false"]))


def unlaunched(arguments: list[str]) -> list[str]:
    """The arguments without what is about launching jobs."""
    return [one for one in arguments if not one.startswith(("launcher=", "hydra.", "hydra/"))]


def composed_alone(settings: list[str]) -> dict[str, Any]:
    """``composed``, of settings with one value each. Raises SkiptuneError."""
    try:
        for override in OverridesParser.create().parse_overrides(settings):
            if override.is_sweep_override():
                raise SkiptuneError(
                    f"{override.input_line}: {EACH} takes several tables, but one value of anything else; "
                    "give them one call after the other"
                )
        return composed(settings)
    except (HydraException, OmegaConfBaseException) as error:
        raise SkiptuneError(explained(error)) from error


def normalised(arguments: list[str]) -> list[str]:
    """``table=skip_tuning/2`` as ``table=skip_tuning/02``, ``figure_4`` as ``figure_04``, also several.

    Raises SkiptuneError for a table that is not there.
    """
    key = "table="
    return [
        key + ",".join(map(table_file, table_names(argument.removeprefix(key))))
        if argument.startswith(key)
        else argument
        for argument in arguments
    ]


def table_names(given: str) -> list[str]:
    """The tables of ``skip_tuning/2,skip_tuning/3``. Raises SkiptuneError if only the first has its paper."""
    names = given.split(",")
    paper, slash, _ = names[0].partition("/")
    whole = [name if "/" in name else f"{paper}/{name}" for name in names]
    if slash and whole != names:
        raise SkiptuneError(f"table={given} names a paper once: write -m table={','.join(whole)}")
    return names


def table_file(name: str) -> str:
    """``<paper>/<NN>`` in ``configs/table``; ``figure_``, ``appendix_`` or ``supplement_`` may come first."""
    tables = choice_names("table")
    match = re.fullmatch(r"(\w+)/(\w+)", name)
    papers = sorted({table.partition("/")[0] for table in tables})
    if match is None:
        raise SkiptuneError(
            f"no table is called {name!r}: write table=PAPER/NUMBER; papers: {', '.join(papers)}"
        )
    if (paper := match[1]) not in papers:
        guess = did_you_mean(paper, papers) or "."
        raise SkiptuneError(f"no paper is called {paper!r}{guess} Papers: {', '.join(papers)}")
    number = re.sub(r"\d+$", lambda digits: digits[0].zfill(2), match[2])
    if f"{paper}/{number}" not in tables:
        known = [own.lstrip("0") for table in tables for of, _, own in [table.partition("/")] if of == paper]
        raise SkiptuneError(
            f"there is no table {match[2]} of {paper}; tables of this paper: {', '.join(known)}"
        )
    return f"{paper}/{number}"


if __name__ == "__main__":
    try:
        sys.argv[1:] = normalised(sys.argv[1:])
        if EACH in sys.argv:
            raise SystemExit(each_row(sys.argv[1:]))
    except SkiptuneError as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
    main()
