"""scripts/measure.py: one run, a sweep, several processes, tracking."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from script_commands import SWEEP, TINY, Server, Shell, Sweep, chunks, written


def test_sweep_prints_a_line_of_json_per_condition(sweep: Sweep) -> None:
    assert sweep.done.code == 0, sweep.done.err
    records = sweep.done.records()
    assert [(r["sampler"]["steps"], r["nfe"]) for r in records] == [(1, 1), (1, 1), (2, 2), (2, 2)]
    assert len({r["run"] for r in records}) == 4
    assert sweep.record(2, 1.0)["intervention"] == {"name": "none"}
    for record in records:
        assert record["images"] == 500 and record["values"]["fid"]["n"] == 2
        assert record["values"]["fid"]["low"] < record["values"]["fid"]["high"]
    assert len(chunks(sweep.store)) == 8
    progress = sweep.done.err.splitlines()
    assert len(progress) == 4 and all("500/500 img" in line for line in progress)
    assert not list(sweep.folder.iterdir())  # everything goes into the store


def test_repeated_sweep_computes_nothing(sweep: Sweep, server: Server, tmp_path: Path) -> None:
    before = written(sweep.store / "runs")
    again = server.run(tmp_path, "measure.py", *SWEEP, f"outputs={sweep.store}")
    assert (again.code, again.err) == (0, "")
    assert again.out == sweep.done.out
    assert written(sweep.store / "runs") == before


def test_sweep_is_one_table(sweep: Sweep, server: Server, tmp_path: Path) -> None:
    done = server.run(tmp_path, "status.py", "conditions=true", f"outputs={sweep.store}")
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader(done.out.splitlines()))
    said = [(int(row["sampler.steps"]), float(row["intervention.rho_bottom"])) for row in rows]
    assert said == [(1, 1.0), (1, 0.8), (2, 1.0), (2, 0.8)]  # "none" before "skip_tuning"
    for row, condition in zip(rows, said, strict=True):
        record = sweep.record(*condition)
        assert (row["record"], int(row["nfe"])) == (record["record"], record["nfe"])
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert float(row[f"fid{end}"]) == record["values"]["fid"][key]


def test_failed_job_of_a_sweep_does_not_stop_the_others(sweep: Sweep, server: Server, tmp_path: Path) -> None:
    store = f"outputs={sweep.store}"
    done = server.run(tmp_path, "measure.py", "-m", *TINY, store, "sampler.steps=0,1,-1,2")
    assert done.code == 2
    assert done.records() == [sweep.record(1, 1.0), sweep.record(2, 1.0)]
    errors = done.err.splitlines()
    assert len(errors) == 2 and all(line.startswith("error: ") for line in errors)
    assert "sampler.steps=0" in errors[0] and "sampler.steps=-1" in errors[1]


def test_single_run_with_offline_tracking(sweep: Sweep, shell: Shell, tmp_path: Path) -> None:
    folder, store = tmp_path / "folder", tmp_path / "store"
    folder.mkdir()
    done = shell.run(
        folder,
        "measure.py",
        *TINY,
        "tracker=wandb",
        "intervention.rho_bottom=0.8",
        "metrics=[fid]",
        f"outputs={store}",
    )
    assert done.code == 0, done.err
    assert done.records() == [sweep.record(1, 0.8)]
    assert chunks(store) == sweep.chunks(1, 0.8)
    assert all("500/500 img" in line for line in done.err.splitlines()), done.err
    (tracked,) = store.glob("wandb/offline-run-*/*.wandb")
    assert b"edm_glyphs euler steps=1 skip_tuning rho_bottom=0.8 rho_top=1.0" in tracked.read_bytes()
    assert not list(folder.iterdir())


def test_torchrun_gives_the_same_bits(sweep: Sweep, shell: Shell, tmp_path: Path) -> None:
    folder, store = tmp_path / "folder", tmp_path / "store"
    folder.mkdir()
    condition = (*TINY, "sampler.steps=2", "intervention.rho_bottom=0.8", f"outputs={store}")
    done = shell.run(folder, "measure.py", *condition, processes=2)
    assert done.code == 0, done.err
    assert done.records() == [sweep.record(2, 0.8)]
    assert chunks(store) == sweep.chunks(2, 0.8)
    name = f"runs/{done.records()[0]['record']}/record.json"
    one, two = (json.loads((root / name).read_text()) for root in (sweep.store, store))
    assert (one["values"], one["nfe"], one["seeds"]) == (two["values"], two["nfe"], two["seeds"])
    assert not list(folder.iterdir())  # no Hydra folder of any rank beside the run store


def test_jobs_of_a_sweep_as_processes(sweep: Sweep, shell: Shell, tmp_path: Path) -> None:
    store = tmp_path / "store"
    jobs = ("-m", *TINY, "intervention.rho_bottom=0.8,1.0", "launcher=local", f"outputs={store}")
    done = shell.run(tmp_path, "measure.py", *jobs)
    assert done.code == 0, done.err
    wanted = [sweep.record(1, 0.8), sweep.record(1, 1.0)]
    assert sorted(done.records(), key=str) == sorted(wanted, key=str)
    assert chunks(store) == {**sweep.chunks(1, 0.8), **sweep.chunks(1, 1.0)}


def test_epsilon_scaling_of_a_model_that_predicts_the_noise(server: Server, tmp_path: Path) -> None:
    model = ("model=ldm_glyphs", "sampler=ddim", "intervention=epsilon_scaling")
    short = (*TINY[3:], "sampler.steps=2", "seeds={first: 0, count: 1, size: 250}", f"outputs={tmp_path}")
    sweep = ("intervention.skip=null,10", "intervention.tau=0.5")
    done = server.run(tmp_path, "measure.py", "-m", *model, *short, *sweep)
    assert done.code == 0, done.err
    without, scaled = done.records()
    assert without["intervention"] == {"name": "none"} and without["nfe"] == scaled["nfe"] == 2
    assert (scaled["intervention"]["skip"], scaled["intervention"]["scale"]) == (10, 1.0)
    assert without["values"]["fid"]["value"] != scaled["values"]["fid"]["value"]
