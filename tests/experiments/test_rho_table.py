"""Selection of rho: on the selection seeds, among the values below 1, and used in the reported row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments.measurement import Bench
from experiments.scale import Scale
from experiments.skip_tuning.rho_table import condition, grid_below_one, make_table, search
from experiments.tables.config import TableConfig, parse_table
from skiptune.errors import SkiptuneError
from skiptune.runtime.provenance import provenance
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers

FID = {0.6: 30.0, 0.8: 20.0, 0.9: 25.0, 1.0: 10.0}


def parsed(composed: Callable[..., dict[str, Any]], heun: list[float], unipc: list[float]) -> TableConfig:
    grids = (f"table.tuning.grids.heun_selected={heun}", f"table.tuning.grids.unipc_selected={unipc}")
    return parse_table(composed(*grids)["table"], "table")


def store_records(bench: Bench, scale: Scale, table: TableConfig, fid: Mapping[float, float]) -> None:
    """Records of the selection runs, as if they had been measured."""
    for row in table.rows:
        for rho in fid if row.tuned else ():
            wanted = scale.measurement(row.role, row.sampler, row.resolved(rho), scale.select, ("fid",))
            run = wanted.settings.open(bench.store)
            bench.store.open(bench.identity(wanted)).write_record(
                {
                    "run": run.id,
                    "nfe": 9,
                    "values": {"fid": [fid[rho]]},
                    "seeds": [list(bounds) for bounds in scale.select.bounds],
                    "images_per_second": None,
                    "seconds": 1.0,
                    "provenance": provenance(),
                }
            )


def test_curve_has_the_grid_and_the_untouched_network(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale], tmp_path: Path
) -> None:
    table = parsed(composed, [0.6, 0.8, 0.9, 1.0], [0.8])
    bench = Bench(RunStore(tmp_path), Workers(1))
    store_records(bench, scales["desk"], table, FID)
    heun, unipc = (
        search(table.row(id), table, scales["desk"], bench) for id in ("heun_selected", "unipc_selected")
    )
    # 1 stands there once, although the grid has it too, and is never selected.
    assert [(p.rho, p.value) for p in heun.points] == list(FID.items())
    assert [(p.rho, p.value) for p in unipc.points] == [(0.8, 20.0), (1.0, 10.0)]
    assert (heun.selected, heun.at_edge) == (0.8, False)
    assert (unipc.selected, unipc.at_edge) == (0.8, True)
    assert len({result.record for result in heun.results}) == len(FID)
    assert all(point.low is None for point in heun.points)  # one block, no interval


def test_selected_rho_enters_the_reported_row(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale]
) -> None:
    table, desk = parsed(composed, [0.6], [0.8]), scales["desk"]
    tuned = condition(table.row("heun_selected"), table, desk, 0.6)
    assert tuned.settings.resolved()["intervention"]["rho_bottom"] == 0.6
    assert tuned.blocks == desk.report
    baseline = condition(table.row("heun_baseline"), table, desk, None)
    assert baseline.settings.resolved()["intervention"] == {"name": "none"}
    assert tuned.settings.resolved()["sampler"] == baseline.settings.resolved()["sampler"]


def test_one_alone_is_no_choice(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale], tmp_path: Path
) -> None:
    table = parsed(composed, [1.0], [0.8])
    with pytest.raises(SkiptuneError, match="tuning.grids.heun_selected has no value below 1"):
        grid_below_one(table, table.row("heun_selected"))
    with pytest.raises(SkiptuneError, match="no value below 1"):
        make_table(table, scales["desk"], Bench(RunStore(tmp_path), Workers(1)), tmp_path / "results")
    assert not list(tmp_path.iterdir())
