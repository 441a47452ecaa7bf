from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from skiptune.errors import SkiptuneError
from skiptune.runtime.tracking import NoTracker, RunInfo, default_tracker, installed, make_tracker

HAS_WANDB = default_tracker() == "wandb"
needs_wandb = pytest.mark.skipif(not HAS_WANDB, reason="wandb is not installed")

SCRIPT = """
import sys
from PIL import Image
from skiptune.errors import SkiptuneError
from skiptune.runtime.tracking import RunInfo, make_tracker

name, mode = sys.argv[1:]
info = RunInfo("0123abcd", "a row", "table_1", ("desk", "heun"), {"sampler": {"steps": 9}}, "row")
try:
    tracker = make_tracker(name, info, mode=mode, project="p", folder="out", init_timeout=1.0)
except SkiptuneError as error:
    sys.exit(f"ERROR {error}")
tracker.log({"fid": 5.5}, step=4000)
tracker.image("absent", "absent.png")
tracker.log({"fid": 4.5}, step=8000)
Image.new("RGB", (4, 4)).save("grid.png")
tracker.image("grid", "grid.png")
tracker.image("absent", "absent.png")
tracker.table("results", ["row", "fid"], [["a", 4.5], ["b", None]])
tracker.summary({"best": 4.5})
print("FINISHED", tracker.finish())
"""


def run_script(mode: str, folder: Path, environment: dict[str, str], name: str = "wandb", **more):
    command = [sys.executable, "-c", SCRIPT, name, mode]
    return subprocess.run(command, cwd=folder, env=environment, text=True, timeout=300, **more)


def inspect(folder: Path, *options: str) -> str:
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", *options, "--json", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


@needs_wandb
def test_offline_run_is_stored_whole_in_its_folder(tmp_path, environment):
    finished = run_script("offline", tmp_path, environment, capture_output=True, stdin=subprocess.DEVNULL)
    assert finished.returncode == 0, finished.stderr
    # The absent picture is reported once and stops nothing; wandb itself says nothing.
    assert finished.stdout == "FINISHED False\n"
    assert finished.stderr.count("\n") == 1 and "the run goes on" in finished.stderr
    (folder,) = (tmp_path / "out" / "wandb").glob("offline-run-*-0123abcd")
    records = [json.loads(line) for line in inspect(folder).splitlines()]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [(row.get("fid"), row["images"]) for row in rows] == [
        (5.5, 4000),
        (4.5, 8000),
        *[(None, 8000)] * 2,
    ]
    summary = json.dumps(json.loads(inspect(folder, "--summary")))
    assert '"steps": 9' in summary and '"best": 4.5' in summary
    text = json.dumps(records)
    assert (
        '"run_group": "table_1"' in text
        and '"job_type": "row"' in text
        and '"tags": ["desk", "heun"]' in text
        and '"step_metric": "images"' in text
    )
    assert len(list(folder.glob("files/media/images/grid_*.png"))) == 1
    (table,) = (json.loads(path.read_text()) for path in folder.glob("files/media/table/results_*.json"))
    assert table == {"columns": ["row", "fid"], "data": [["a", 4.5], ["b", None]]}
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "grid.png", ".config"}

    # A run that goes on offline is a further folder of its id; wandb's own steps start anew, images do not.
    run_script("offline", tmp_path, environment, capture_output=True)
    segments = set((tmp_path / "out" / "wandb").glob("offline-run-*-0123abcd"))
    (second,) = segments - {folder}
    records = [json.loads(line) for line in inspect(second).splitlines()]
    first = next(record["history"]["item"] for record in records if record["type"] == "history")
    assert (first["_step"], first["images"]) == (0, 4000)


@pytest.mark.skipif(not installed("trackio"), reason="trackio is not installed: its tracker was not tried")
def test_trackio_keeps_the_same_calls_in_its_database(tmp_path, environment):
    done = run_script("offline", tmp_path, environment, "trackio", capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "FINISHED False\n"  # of the absent picture, as above
    (database,) = (tmp_path / "out" / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = [json.loads(text) for (text,) in connection.execute("select metrics from metrics order by id")]
        (config,) = (json.loads(text) for (text,) in connection.execute("select config from configs"))
    assert [row["fid"] for row in rows if "fid" in row] == [5.5, 4.5]
    assert {"grid", "results", "best"} <= {name for row in rows for name in row}
    assert config["tags"] == "desk, heun" and config["sampler"] == {"steps": 9}
    assert list((tmp_path / "out" / "trackio" / "media").rglob("*.png"))


@needs_wandb
def test_online_without_key_is_one_line_and_no_question_on_a_terminal(tmp_path, environment):
    terminal, end = pty.openpty()
    try:
        finished = run_script("online", tmp_path, environment, stdin=end, stdout=end, stderr=end)
        text = os.read(terminal, 65536).decode()
    finally:
        os.close(end)
        os.close(terminal)
    assert finished.returncode == 1
    assert text.startswith("ERROR wandb has no API key") and text.count("\n") == 1


@needs_wandb
def test_online_without_network_goes_on_offline(tmp_path, environment):
    # A key of the right form, a server that refuses connections.
    unreachable = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    finished = run_script("online", tmp_path, environment | unreachable, capture_output=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "FINISHED False\n"
    assert "wandb is not reachable, tracking offline in out" in finished.stderr.splitlines()[0]
    (folder,) = (tmp_path / "out" / "wandb").glob("offline-run-*-0123abcd")
    assert '"fid":4.5' in inspect(folder)


def test_none_takes_everything(tmp_path):
    tracker = make_tracker("none", RunInfo())
    assert isinstance(tracker, NoTracker)
    tracker.log({"a": 1.0}, step=1)
    tracker.image("a", tmp_path / "absent.png")
    tracker.table("a", ["b"], [])
    tracker.summary({})
    assert tracker.finish()


@pytest.mark.parametrize("arguments", [{"name": "tensorboard"}, {"name": "wandb", "mode": "sometimes"}])
def test_unknown_names_are_refused(arguments):
    with pytest.raises(SkiptuneError, match="unknown tracker"):
        make_tracker(info=RunInfo(), **arguments)


@needs_wandb
def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SkiptuneError, match="cannot write"):
        make_tracker("wandb", RunInfo(), folder=tmp_path / "file" / "out")


def test_folder_of_former_runs_is_not_the_package(tmp_path, environment):
    # -I and -S: no site-packages, only the current folder with its ./wandb.
    (tmp_path / "wandb").mkdir()
    root = environment["PYTHONPATH"].split(os.pathsep)[0]
    code = f"import sys; sys.path[:0] = ['', {root!r}]; from skiptune.runtime.tracking import default_tracker"
    command = [sys.executable, "-I", "-S", "-c", code + "; print(default_tracker())"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert answer.stdout == "none\n", answer.stderr
