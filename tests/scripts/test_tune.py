"""scripts/tune.py: what it finds, says and writes; killed and repeated it computes nothing twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from script_commands import ROOT, Done, Server, Shell, chunks, written
from test_kill import ended, wait_until

REPORT = "{first: 2000000, count: 2, size: 250}"
# Three network evaluations per image, a chunk a point, two chunks a report.
ARGUMENTS = (
    "sampler=heun",
    "sampler.steps=2",
    "space.rho_top=1.0",
    "space.time_direction=null",
    "seeds.select.size=250",
    f"seeds.report={REPORT}",
    "reference_images=300",
    "tracker=none",
    "workers=1",
)
CHUNKS = 4 + 2 * 2


@dataclass(frozen=True)
class Tuning:
    """A finished search, in the run store ``folder / outputs``."""

    folder: Path
    done: Done

    @property
    def store(self) -> Path:
        return self.folder / "outputs"

    @property
    def record(self) -> dict[str, Any]:
        (path,) = (self.store / "tune").glob("*.json")
        record: dict[str, Any] = json.loads(path.read_text())
        del record["provenance"]
        return record


@pytest.fixture(scope="session")
def tuning(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Tuning:
    folder = tmp_path_factory.mktemp("tuning")
    return Tuning(folder, server.run(folder, "tune.py", *ARGUMENTS))


def test_it_finds_the_best_point_tried_and_reports_on_other_seeds(tuning: Tuning) -> None:
    assert tuning.done.code == 0, tuning.done.err
    record = tuning.record
    best = min(record["tried"], key=lambda trial: trial["value"])
    assert record["chosen"] == best["settings"] and len(record["tried"]) == 4
    assert record["seeds"] == {
        "select": [[1000000, 1000249]],
        "report": [[2000000, 2000249], [2000250, 2000499]],
    }
    differences = np.subtract(record["report"]["chosen"], record["report"]["untouched"])
    gain = record["report"]["gain"]
    assert gain["value"] == pytest.approx(differences.mean()) and gain["n"] == 2
    assert gain["high"] - gain["low"] == pytest.approx(2 * 12.7062 * abs(differences[0] - differences[1]) / 2)
    assert record["helps"] == (gain["high"] < 0)
    assert len(chunks(tuning.store)) == CHUNKS


def test_cost_is_counted_in_network_evaluations(tuning: Tuning) -> None:
    cost = tuning.record["cost"]
    assert cost["nfe"] == 3 and cost["images"] == 1000 and cost["evaluations"] == 3000
    assert cost["exhaustive_evaluations"] == 19 * 250 * 3 and cost["ratio"] == pytest.approx(4 / 19)
    assert "3,000 network evaluations (1,000 images x 3 NFE), 0.211 of the exhaustive grid's 14,250" in (
        tuning.done.out
    )


def test_lines_to_paste_and_figure(tuning: Tuning) -> None:
    record, lines = tuning.record, tuning.done.out.splitlines()
    assert record["python"] in lines and record["overrides"] in lines
    if not record["helps"]:
        assert any("recommended is rho = 1" in line for line in lines)
        assert record["recommended"]["rho_bottom"] == 1.0
    (path,) = (tuning.store / "tune").glob("*.png")
    assert f"wrote outputs/tune/{path.name}" in lines
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    assert (pixels == (0, 0x72, 0xB2)).all(axis=1).any()  # the chosen point
    assert not list(tuning.folder.glob("*.json"))


def test_overrides_make_the_run_that_was_reported(tuning: Tuning, server: Server) -> None:
    record = tuning.record
    kept = [a for a in ARGUMENTS if not a.startswith(("space", "seeds"))]
    overrides = record["overrides"].split()
    before = chunks(tuning.store)
    done = server.run(tuning.folder, "measure.py", *kept, *overrides, f"seeds={REPORT}")
    assert done.code == 0, done.err
    reported = record["report"]["chosen" if record["helps"] else "untouched"]
    assert done.records()[0]["values"]["fid"]["value"] == pytest.approx(np.mean(reported), rel=1e-12)
    assert chunks(tuning.store) == before  # the same run: nothing was sampled


def test_repeated_it_computes_nothing(tuning: Tuning, server: Server) -> None:
    before = written(tuning.store / "runs")
    again = server.run(tuning.folder, "tune.py", *ARGUMENTS)
    assert (again.code, again.err, again.out) == (0, "", tuning.done.out)
    assert written(tuning.store / "runs") == before


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="as tests of killing")
def test_killed_it_goes_on_where_it_was(tuning: Tuning, shell: Shell, server: Server, tmp_path: Path) -> None:
    store = tmp_path / "outputs"
    with ended(shell.start(tmp_path, str(ROOT / "scripts/tune.py"), *ARGUMENTS)) as process:
        assert wait_until(lambda: len(chunks(store)) >= 2, 300)
        process.kill()
        process.wait()
    before = {path: time for path, time in written(store).items() if path.suffix == ".safetensors"}
    assert 0 < len(chunks(store)) < CHUNKS

    done = server.run(tmp_path, "tune.py", *ARGUMENTS)
    assert (done.code, done.out) == (0, tuning.done.out), done.err
    assert Tuning(tmp_path, done).record == tuning.record
    assert chunks(store) == chunks(tuning.store)
    assert before.items() <= written(store).items()  # nothing was computed twice


def test_torchrun_gives_the_same(tuning: Tuning, shell: Shell, tmp_path: Path) -> None:
    """Every process proposes the same points and computes its share of the chunks."""
    done = shell.run(tmp_path, "tune.py", *ARGUMENTS, processes=2)
    assert (done.code, done.out) == (0, tuning.done.out), done.err
    assert Tuning(tmp_path, done).record == tuning.record
    assert chunks(tmp_path / "outputs") == chunks(tuning.store)


def test_a_file_of_statistics_is_a_reference_too(tuning: Tuning, server: Server, tmp_path: Path) -> None:
    """Mean and covariance of the same real images, as in EDM's files, give the same search.

    measure.py takes the same file by its published name: one record.
    """
    (run,) = (
        path.parent
        for path in tuning.store.glob("runs/*/settings.json")
        if json.loads(path.read_text())["kind"] == "reference"
    )
    features = load_file(run / "chunks/00000.safetensors")["features"].astype(np.float64)
    np.savez(tmp_path / "imagenet-64x64.npz", mu=features.mean(0), sigma=np.cov(features, rowvar=False))
    arguments = [argument for argument in ARGUMENTS if not argument.startswith("reference_images")]
    places = ("reference=imagenet-64x64.npz", f"outputs={tuning.store}", "results=found")
    done = server.run(tmp_path, "tune.py", *arguments, *places)
    assert done.code == 0, done.err
    (path,) = (tmp_path / "found").glob("*.json")
    found = json.loads(path.read_text())
    assert found["chosen"] == tuning.record["chosen"]
    values = [[trial["value"] for trial in record["tried"]] for record in (found, tuning.record)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)

    before = written(tuning.store)
    kept = [argument for argument in arguments if not argument.startswith(("space", "seeds"))]
    named = (f"seeds={REPORT}", "reference=fid_imagenet64", "checkpoints=.", places[1])
    measured = server.run(tmp_path, "measure.py", *kept, *named)
    assert measured.code == 0, measured.err
    (record,) = measured.records()
    assert record["values"]["fid"]["value"] == pytest.approx(np.mean(found["report"]["untouched"]), rel=1e-12)
    assert "floor" not in record and written(tuning.store) == before
