"""SIGKILL at random moments of a table: sampling, features, metrics, drawing; at the end the same bytes.

``--kills 50`` is the whole check, of some minutes; ``--kill-report FOLDER`` writes a report, ``kill.md``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import socket
import sys
import time
from collections import Counter
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from kill_tasks import ROOT, SIZE, rank_main

ROW = "id: {0}, label: {0}, arm: {1}, role: class_conditional_edm, sampler: {{name: heun, steps: 2}}"
ROWS = ", ".join(
    f"{{{ROW.format(name, arm)}, intervention: {{name: skip_tuning, rho_bottom: {rho}}}{more}}}"
    for name, arm, rho, more in (
        ("heun_baseline", "baseline", 1.0, ""),
        ("heun_selected", "selected", "tuned", ", baseline: heun_baseline, scales: [desk]"),
    )
)
PARAMETERS = "{metric: fid, weak: 1.0, strong: 0.6, rows: {desk: [heun_selected]}}"
TABLE = (
    "table=skip_tuning/02",
    f"table.rows=[{ROWS}]",
    "table.tuning.grids.heun_selected=[0.8, 0.9]",
    "~table.tuning.grids.unipc_selected",
    f"table.claims=[{{id: ST-C1, statement: falls, rule: ratio_below, parameters: {PARAMETERS}}}]",
    "scale.seeds.report={first: 0, count: 2, size: 250}",
    "scale.seeds.select={first: 1000000, count: 1, size: 250}",
    "scale.roles.class_conditional_edm.reference_images=300",
    "tracker=none",
    "workers=1",
)
ENDED_WITH_ANOTHER = 2


@pytest.fixture(scope="module")
def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kill_tasks"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


def start(processes: Any, folder: Path) -> list[Any]:
    """The table in two processes of one job."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [processes.Process(target=rank_main, args=(rank, port, folder, TABLE)) for rank in range(SIZE)]
    for rank in ranks:
        rank.start()
    return ranks


def ended_well(ranks: list[Any], folder: Path) -> None:
    for rank in ranks:
        rank.join(300)
    assert [rank.exitcode for rank in ranks] == [0] * SIZE, (folder / "log0").read_text()


def have_met(ranks: list[Any], folder: Path) -> bool:
    """Whether each knows the other. Before that a survivor waits for one that may still come."""
    met = [path.read_text() if (path := folder / f"met{i}").exists() else "" for i in range(SIZE)]
    return met == [str(rank.pid) for rank in ranks]


def kill(ranks: list[Any], victim: str, met: bool) -> None:
    """SIGKILL to one or both; a survivor that has met the other ends by itself."""
    for number, rank in enumerate(ranks):
        if victim in ("both", f"rank {number}") or not met:
            rank.kill()
    for rank in ranks:
        rank.join(20)
        assert rank.exitcode in (-9, 0, 1, ENDED_WITH_ANOTHER), rank


def phase(folder: Path) -> str:
    """What the job was at, from what it left."""
    chunks = records = 0
    for settings in folder.glob("outputs/runs/*/settings.json"):
        kind = json.loads(settings.read_text())["kind"]
        if kind == "sampling":
            chunks += len(list(settings.parent.glob("chunks/*.safetensors")))
        records += kind in ("measurement", "floor") and (settings.parent / "record.json").exists()
    if (folder / "results").is_dir() and any((folder / "results").rglob("*_rho.png")):
        return "drawing and writing"
    if chunks == 7:
        return "metrics and floors" if records < 6 else "drawing and writing"
    return "sampling and features"


def made(folder: Path) -> dict[str, bytes]:
    """The files of the table; when and how fast they were made, which no two runs share, left out."""
    files = {}
    for path in sorted((folder / "results").rglob("*.*")):
        content = path.read_bytes()
        if path.suffix == ".json":
            data = json.loads(content)
            del data["provenance"]
            content = json.dumps(data).encode()
        elif path.suffix == ".md":
            content = re.sub(rb"started [^;]*;|\d{4}-\d\d-\d\d", b"", content)
        files[str(path.relative_to(folder))] = content
    assert {Path(name).suffix for name in files} == {".json", ".csv", ".md", ".png"}
    return files


def test_a_table_killed_at_random_moments_ends_in_the_same_bytes(
    processes: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills, report = request.config.getoption("--kills"), request.config.getoption("--kill-report")
    began = time.monotonic()
    ended_well(start(processes, tmp_path / "undisturbed"), tmp_path / "undisturbed")
    whole, wanted = time.monotonic() - began, made(tmp_path / "undisturbed")
    draw, seen, victims, tables = random.Random(0), Counter[str](), Counter[str](), 0
    while seen.total() < kills:
        folder = tmp_path / f"killed{tables}"
        ranks = start(processes, folder)
        # A job that goes on has less to do than a whole table: some moments come after its end.
        moment = time.monotonic() + draw.uniform(0, whole)
        while time.monotonic() < moment and all(rank.is_alive() for rank in ranks):
            time.sleep(0.01)
        if all(rank.is_alive() for rank in ranks):
            victim, met = draw.choice(("both", "rank 0", "rank 1")), have_met(ranks, folder)
            seen[phase(folder) if met else "starting"] += 1
            victims[victim] += 1
            kill(ranks, victim, met)
        else:
            ended_well(ranks, folder)
            assert made(folder) == wanted
            tables += 1
    ended_well(start(processes, folder := tmp_path / f"killed{tables}"), folder)
    assert made(folder) == wanted
    print(f"{kills} kills over {tables + 1} tables; {dict(seen)}; {dict(victims)}")
    if report:
        write_report(Path(report), kills, tables + 1, seen, victims)


def write_report(folder: Path, kills: int, tables: int, seen: Counter[str], victims: Counter[str]) -> None:
    lines = [
        "# SIGKILL at random moments",
        "",
        f"A small Table 2 (a search, two rows, a floor, figures) in {SIZE} processes that share a run store, "
        f"killed {kills} times at random moments over {tables} tables and started again; every table ended "
        "in the same bytes as the undisturbed one (dates and speeds, which no two runs share, left out).",
        "",
        "| the job was at | kills |",
        "| --- | ---: |",
        *(f"| {name} | {count} |" for name, count in sorted(seen.items())),
        "",
        "Killed: " + ", ".join(f"{name} {count} times" for name, count in sorted(victims.items())) + ".",
        "",
        "Command: `pytest tests/scripts/test_killed_table.py --kills 50 --kill-report results/benchmarks`.",
        "",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kill.md").write_text("\n".join(lines))
