"""Every table of configs/table: its rows name what their scale has, and the desk's weights are shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from experiments.needs import needs_of
from experiments.registry import measurement
from experiments.scale import Scale
from experiments.tables.config import SCALES, RowConfig, TableConfig
from experiments.tables.read import parse_table
from skiptune.errors import SkiptuneError

TABLES = Path(__file__).resolve().parents[3] / "configs/table"
PATHS = sorted(TABLES.glob("*/*.yaml"))

every_table = pytest.mark.parametrize(
    "path", PATHS, ids=lambda path: path.relative_to(TABLES).with_suffix("").as_posix()
)


def parsed(path: Path) -> TableConfig:
    return parse_table(yaml.safe_load(path.read_text(encoding="utf-8")), path.stem)


def refusals(rows: tuple[RowConfig, ...], make: Callable[[RowConfig], object]) -> dict[str, str]:
    """By id of the rows that cannot be had, why."""
    found = {}
    for row in rows:
        try:
            make(row)
        except SkiptuneError as error:
            found[row.id] = str(error)
    return found


@every_table
def test_rows_name_roles_of_their_scale(path: Path, scales: dict[str, Scale]) -> None:
    table = parsed(path)
    for name in SCALES:
        assert refusals(table.rows_at(name), lambda row, name=name: scales[name].role(row.role)) == {}
        assert len(needs_of(table, scales[name]).rows) == len(table.rows_at(name))


@every_table
def test_rows_of_the_desk_are_measured_with_what_is_shipped(path: Path, scales: dict[str, Scale]) -> None:
    table = parsed(path)
    desk = scales["desk"].with_seeds(table.seeds.get("desk", {}))

    def make(row: RowConfig) -> object:
        metrics = row.metrics or table.metrics
        return measurement(desk, row, row.resolved(0.9), desk.report, metrics)

    assert refusals(table.rows_at("desk"), make) == {}
