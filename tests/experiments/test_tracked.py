"""What a tracker gets of a table: a run per row, one of the whole, read back from an offline run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.drawings.grid import grid
from experiments.tables.config import TableConfig
from experiments.tables.results import TableResult
from experiments.tracking.runs import Tracked, row_runs, table_run
from scripts.shared.common import track
from scripts.shared.tables import table_configs
from skiptune.runtime.claims import claiming
from skiptune.runtime.store import Run, RunStore
from skiptune.runtime.tracking import installed

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results/desk/skip_tuning"


@pytest.fixture(scope="module")
def table() -> tuple[TableResult, TableConfig]:
    result = TableResult.from_json((RESULTS / "table_02.json").read_text())
    return result, table_configs("skip_tuning/02")["skip_tuning/02"]


@pytest.fixture
def store(tmp_path: Path, table: tuple[TableResult, TableConfig]) -> RunStore:
    """The first row's run with one chunk that holds images."""
    store, (record, id, *_) = RunStore(tmp_path), table[0].rows[0].record
    Run(record, store.root / "runs" / record, {}).write_record({"images_per_second": 123.5})
    run = Run(id, store.root / "runs" / id, {})
    run.write_chunk(100_000 // 250, {"images": torch.full((16, 3, 16, 16), 200, dtype=torch.uint8)})
    return store


def test_a_run_per_row_with_intervals_and_the_papers_value(
    table: tuple[TableResult, TableConfig], store: RunStore
) -> None:
    runs = row_runs(*table, store)
    assert [run.info.name for run in runs] == [row.label for row in table[0].rows]
    assert len({run.info.id for run in runs}) == len(runs)
    assert {run.info.group for run in runs} == {"skip_tuning/table_02 desk"}
    base, row = runs[0], table[0].rows[0]
    value = row.values["fid"]
    assert base.values == {
        "fid": value.value,
        "fid_low": value.low,
        "fid_high": value.high,
        "fid_blocks": 5.0,
        "fid_paper": 35.12,
        "nfe": 9.0,
        "images_per_second": 123.5,
    }
    assert base.images == 3750 and {"skip_tuning", "desk scale", "heun", "baseline"} <= set(base.info.tags)
    assert base.info.config["records"] == list(row.record) and base.info.config["steps"] == 5
    assert base.pictures["samples"].shape == (256, 256, 3)  # type: ignore[union-attr]
    assert not runs[1].pictures  # the store has none of its images
    again = row_runs(*table, RunStore(store.root / "elsewhere"))
    assert [run.info.id for run in again] == [run.info.id for run in runs]


def test_grid_keeps_every_image_in_its_place() -> None:
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 64, 64)
    made = grid(images)
    assert made.shape == (128, 256, 3)
    assert [int(made[0, 64 * i, 0]) for i in range(4)] == [0, 1, 2, 3]
    assert made[64, 0, 0] == 4 and np.all(made[64:, 64:] == 255)


@pytest.mark.skipif(not installed("wandb"), reason="wandb is not installed")
def test_offline_runs_hold_metrics_table_and_images(
    table: tuple[TableResult, TableConfig], store: RunStore, composed: Callable[..., dict[str, Any]]
) -> None:
    config = {**composed("tracker=wandb"), "outputs": str(store.root)}
    whole = table_run(*table, {"rho": RESULTS / "table_02_rho.png"})
    runs = [whole, row_runs(*table, store)[0]]
    with claiming([store.root / "wandb/handed-over/offline" / run.info.id for run in runs]):
        track(config, runs)  # another process is about to
    assert not list(store.root.glob("wandb/offline-run-*"))
    track(config, runs)
    track(config, runs)  # the same result again: nothing new
    folders = {run.info.name: folder_of(run, store.root) for run in runs}
    of_table, of_row = (json.dumps(records(folders[run.info.name])) for run in runs)
    assert '"run_group": "skip_tuning/table_02 desk"' in of_table
    assert '"ST-C1": "supported"' in of_table or '"verdict/ST-C1"' in of_table
    (stored,) = folders["Table 2"].glob("files/media/table/results_*.json")
    data = json.loads(stored.read_text())
    assert [row[0] for row in data["data"]] == [row.label for row in table[0].rows]
    assert data["data"][0][data["columns"].index("fid")] == table[0].rows[0].values["fid"].value
    assert len(list(folders["Table 2"].glob("files/media/table/claims_*.json"))) == 1
    assert len(list(folders["Table 2"].glob("files/media/images/rho_*.png"))) == 1
    assert str(table[0].rows[0].values["fid"].value) in of_row and '"heun"' in of_row
    assert len(list(folders["Heun, baseline"].glob("files/media/images/samples_*.png"))) == 1


def folder_of(run: Tracked, outputs: Path) -> Path:
    (folder,) = outputs.glob(f"wandb/offline-run-*-{run.info.id}")
    return folder


def records(folder: Path) -> list[Any]:
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return [json.loads(line) for line in done.stdout.splitlines()]
