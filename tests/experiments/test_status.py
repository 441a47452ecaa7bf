"""The status of a table from a run store: named by the same hashes as when the table is made."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.measurement import Measurement
from experiments.scale import Scale
from experiments.status.of_tables import TableStatus, status_of
from experiments.status.text import clock, plain_values, render
from experiments.tables.config import TableConfig
from experiments.tables.read import parse_table
from experiments.wanted import grid_measurements, reported
from skiptune.runtime.claims import claiming
from skiptune.runtime.provenance import provenance
from skiptune.runtime.seed_chunks import CHUNK, open_run
from skiptune.runtime.store import RunStore

NAME = "skip_tuning/02"
# Selection 2 chunks a value, report 4 chunks a row; both samplers make 9 evaluations an image.
SEEDS = {
    "select": {"first": 1000, "count": 1, "size": 500},
    "report": {"first": 5000, "count": 2, "size": 500},
}
NFE = 9


@pytest.fixture(scope="module")
def table(composed: Callable[..., dict[str, Any]]) -> TableConfig:
    grids = ("table.tuning.grids.heun_selected=[0.4]", "table.tuning.grids.unipc_selected=[0.68]")
    return replace(parse_table(composed(*grids)["table"], "table"), seeds={"desk": SEEDS})


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "store")


def status(table: TableConfig, scale: Scale, store: RunStore) -> TableStatus:
    (found,) = status_of({NAME: table}, scale, store)
    return found


def keep(store: RunStore, one: Measurement, fid: float = 5.0, speed: float | None = None) -> None:
    """A record as measuring leaves it."""
    record = {
        "run": open_run(one.settings, store).id,
        "nfe": NFE,
        "values": {"fid": [fid] * one.blocks.count},
        "seeds": [list(bounds) for bounds in one.blocks.bounds],
        "images_per_second": speed,
        "seconds": 1.0,
        "provenance": provenance(),
    }
    store.open(one.identity).write_record(record)


def rows(table: TableConfig, scale: Scale) -> tuple[list[Measurement], list[Measurement]]:
    """The measurements of both searches, and of the rows with 0.4 and 0.68 selected."""
    scale, chosen = scale.with_seeds(SEEDS), {"heun_selected": 0.4, "unipc_selected": 0.68}
    searches = [one for id in chosen for one in grid_measurements(table.row(id), table, scale).values()]
    report = [one for row in table.rows_at("desk") for one in reported(row, table, scale, chosen.get(row.id))]
    return searches, report


def test_from_nothing_to_done(table: TableConfig, scales: dict[str, Scale], store: RunStore) -> None:
    scale = scales["desk"]
    empty = status(table, scale, store)
    assert empty.state == "missing" and not store.root.exists()
    # Four values tried; six rows, whose selected rho nobody knows yet.
    assert (empty.done, empty.chunks, empty.measured, empty.measurements) == (0, 4 * 2 + 6 * 4, 0, 10)
    assert empty.seconds is None

    searches, report = rows(table, scale)
    for one in searches:
        keep(store, one, speed=100.0)
    searched = status(table, scale, store)
    # Now 0.68 is known to be selected, which is the paper's value: one run for two rows.
    assert (searched.state, searched.done, searched.measured) == ("partly", 8, 4)
    assert searched.chunks == 8 + 5 * 4
    assert searched.seconds == pytest.approx(5 * 4 * CHUNK / 100.0)

    for one in report:
        keep(store, one)
    done = status(table, scale, store)
    assert (done.state, done.missing, done.seconds, done.measured) == ("done", 0, 0.0, 10)


def test_fresh_chunks_tell_the_rate(table: TableConfig, scales: dict[str, Scale], store: RunStore) -> None:
    _, report = rows(table, scales["desk"])
    run, now = open_run(report[0].settings, store), time.time()
    for number, age in ((20, 30.0), (21, 20.0), (22, 10.0)):
        run.write_chunk(number, {"nfe": torch.tensor(float(NFE))})
        os.utime(run.chunk_path(number), (now - age, now - age))
    found = status(table, scales["desk"], store)
    assert (found.state, found.done, found.missing) == ("partly", 3, 29)
    assert found.seconds == pytest.approx(29 * 10.0, rel=1e-3)  # ten seconds a chunk
    old = now - 7200
    for number in (20, 21, 22):
        os.utime(run.chunk_path(number), (old + number, old + number))
    assert status(table, scales["desk"], store).seconds is None


def test_claims_and_failures_of_others_are_seen(
    table: TableConfig, scales: dict[str, Scale], store: RunStore
) -> None:
    _, report = rows(table, scales["desk"])
    first, second = (open_run(one.settings, store) for one in report[:2])
    with claiming([first.chunk_path(20), first.chunk_path(21)]) as mine:
        assert len(mine) == 2
        first.write_chunk(20, {"nfe": torch.tensor(float(NFE))})
        second.write_failure("no memory left")
        found = status(table, scales["desk"], store)
        assert (found.state, found.done, found.running, found.failed) == ("running", 1, 1, 4)
        assert found.missing == found.chunks - 6 and found.failures == ("no memory left",)
        # A claim that nobody touches any more is no work.
        dead = json.loads((claim := next(first.folder.glob("chunks/.00021*.claim"))).read_text())
        claim.write_text(json.dumps({**dead, "boot": "another machine"}))
        os.utime(claim, (0, 0))
        assert (stopped := status(table, scales["desk"], store)).running == 0
    assert stopped.state == "failed" and "failed: no memory left: skip_tuning/02" in render([stopped])


def test_missing_file_blocks_and_is_named(
    scales: dict[str, Scale], table: TableConfig, store: RunStore
) -> None:
    blocked = status(table, scales["paper"], store)
    assert (blocked.state, blocked.chunks) == ("blocked", 4 * 50_000 // CHUNK)
    assert "edm-imagenet-64x64-cond-adm.pkl" in blocked.problem
    text = render([blocked])
    assert "0 of 1 tables done" in text and text.count(blocked.problem) == 1
    (plain,) = plain_values([blocked])
    assert (plain["table"], plain["missing"], plain["seconds"]) == (NAME, 800, None)


def test_clock() -> None:
    given = (None, 0.0, 20.0, 3700.0, 90_000.0)
    assert [clock(seconds) for seconds in given] == ["unknown", "–", "1 min", "1 h 02 min", "1 d 1 h"]
