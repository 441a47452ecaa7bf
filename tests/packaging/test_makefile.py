"""The Makefile: help is complete, targets call the right command, the install happens once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """make in a folder, as from a shell: nothing of a make around the test run comes through."""
    inherited = ("MAKE", "MFLAGS", "GNUMAKE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=60)


def commands(root: Path, *arguments: str) -> str:
    """What a target would run in an installed checkout, without running it."""
    done = make(root, "-n", "-o", ".venv/.installed", "-o", ".venv/.installed-test", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_is_the_default_and_lists_every_target(root: Path) -> None:
    text = (root / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split()) - {"FORCE"}  # type: ignore[index]
    patterns = {name.replace("%", "N") for name in re.findall(r"^([a-z0-9-]+%):", text, re.M)}
    listed = make(root)
    assert listed.returncode == 0
    assert listed.stdout == make(root, "help").stdout
    lines = re.findall(r"^  (\S+) +(\S.*)$", listed.stdout, re.M)
    assert {name for name, _ in lines} == phony | patterns
    assert {"reproduce-table-N", "reproduce-s2dm-table-N", "reproduce-ip-table-N"} <= patterns
    assert {"reproduce-figure-N", "reproduce-s2dm-figure-N", "reproduce-ip-figure-N"} <= patterns
    assert "reproduce-ip-supplement-N" in patterns


def test_what_was_tracked_offline_is_uploaded_and_browsed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "wandb/offline-run-20260101_000000-abc").mkdir(parents=True)
    for target, said in (("sync", ".venv/bin/wandb sync --yes"), ("browse", ".venv/bin/wandb leet")):
        assert said in commands(root, target, f"OUTPUTS={tmp_path}")
        refused = make(root, "-o", ".venv/.installed", target, f"OUTPUTS={tmp_path / 'none'}")
        assert refused.returncode != 0 and refused.stderr.startswith("error: nothing was tracked")


@pytest.mark.parametrize(
    ("target", "table"),
    [
        ("reproduce-table-2", "skip_tuning/2"),
        ("reproduce-table-02", "skip_tuning/02"),
        ("reproduce-s2dm-table-99", "s2dm/99"),
        ("reproduce-s2dm-figure-6", "s2dm/figure_6"),
        ("reproduce-ip-table-4", "importance_probe/4"),
    ],
)
def test_table_targets(root: Path, target: str, table: str) -> None:
    plain = commands(root, target).split()
    assert plain[:2] == [".venv/bin/python", "scripts/reproduce.py"]
    assert {f"table={table}", "scale=desk"} <= set(plain)
    on_gpus = commands(root, target, "SCALE=paper", "GPUS=4", "ARGS=dry_run=true")
    assert "-m torch.distributed.run --standalone --nproc-per-node=4 scripts/reproduce.py" in on_gpus
    assert {f"table={table}", "scale=paper", "dry_run=true"} <= set(on_gpus.split())
    assert "torch.distributed" not in commands(root, target, "GPUS=1")


def test_all_tables_and_trainings_are_found(root: Path) -> None:
    everything = commands(root, "reproduce-all")
    for path in (root / "configs/table").glob("*/*.yaml"):
        assert f"{path.parent.name}/{path.stem}" in everything
    assert everything.split()[:3] == [".venv/bin/python", "scripts/reproduce.py", "-m"]  # one process
    assert everything.count("scripts/reproduce.py") == 1
    on_gpus = commands(root, "reproduce-all", "GPUS=2", "SCALE=paper")
    assert "--nproc-per-node=2 scripts/reproduce.py table=$table scale=paper" in on_gpus
    assert "table=skip_tuning/01,skip_tuning/02," in commands(root, "reproduce-all", "PAPER=skip_tuning")
    trainings = commands(root, "train-desk-models")
    names = re.findall(r"\w+", trainings)
    for path in (root / "configs/training").glob("*.yaml"):
        of_paper_scale = re.search("_imagenet64|_cifar10$|_celeba$", path.stem) is not None  # needs GPUs
        on_the_way = path.stem == "ddim1_digits"  # ddim2_digits exports it
        assert (path.stem in names) != (of_paper_scale or on_the_way)
    assert "training.seed=$seed suffix=_seed$seed" in trainings and names.count("ddim2_digits") == 2
    assert names.index("edm_glyphs") < names.index("cd_glyphs")  # a teacher comes before its students
    for name in names:
        path = root / f"configs/training/{name}.yaml"
        start = re.search(r"\binitial: (\w+)", path.read_text()) if path.exists() else None
        if start and start[1] in names:  # null: random weights
            assert names.index(start[1]) < names.index(name), name


def test_official_files(root: Path) -> None:
    python = ".venv/bin/python"
    assert commands(root, "download").split() == [python, "scripts/download.py"]
    wanted = commands(root, "download", "NAME=edm_imagenet64 edm_ffhq", "ARGS=checkpoints=here").split()
    assert wanted == [python, "scripts/download.py", "edm_imagenet64", "edm_ffhq", "checkpoints=here"]
    assert commands(root, "paper-check").split() == [python, "scripts/paper_check.py"]


def test_unknown_target_fails(root: Path) -> None:
    failed = make(root, "reproduce-picture-2")
    assert failed.returncode != 0
    assert len(failed.stderr.splitlines()) == 1


def test_install_happens_once_and_again_when_the_lock_changes(root: Path, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for name in ("Makefile", "requirements-test.lock", "pyproject.toml", "scripts/install.sh"):
        shutil.copyfile(root / name, tmp_path / name)
        os.utime(tmp_path / name, (1_000, 1_000))
    assert make(tmp_path, "-q", "install").returncode == 1
    stamp = tmp_path / ".venv/.installed-test"
    stamp.parent.mkdir()
    stamp.touch()
    os.utime(stamp, (2_000, 2_000))
    assert make(tmp_path, "-q", "install").returncode == 0
    os.utime(tmp_path / "requirements-test.lock", (3_000, 3_000))
    assert make(tmp_path, "-q", "install").returncode == 1


def test_no_usable_python_is_one_clear_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for name in ("Makefile", "requirements-test.lock", "pyproject.toml", "scripts/install.sh"):
        shutil.copyfile(root / name, tmp_path / name)
    failed = make(tmp_path, "test", "PYTHON=/no/such/python")
    assert failed.returncode != 0
    ours = [line for line in failed.stderr.splitlines() if not line.startswith("make")]
    assert len(ours) == 1 and ours[0].startswith("error: Python 3.11") and "/no/such/python" in ours[0]
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_the_suite(root: Path) -> None:
    script = root / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[0] == "#!/usr/bin/env bash"
    assert re.search(r"^exec make test </dev/null$", script.read_text(), re.M)
