"""--help of every program: what it is for, its settings with their comments, the choices of its groups."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from script_commands import ROOT

from scripts.shared.usage import groups, usage

AT_ONCE = {  # programs that answer before they import what they need, with a line of the answer
    "benchmark": "repeats: ",
    "dashboard": "python scripts/dashboard.py paper=skip_tuning entity=ME",
    "download": "longest_wait: 120.0  # seconds; a server that asks for more patience",
    "evaluate": "blocks: null  # equal blocks of images",
    "measure": "features: glyphs_cnn by default; there are clean_inception_v3, ",
    "paper_check": "``page=FILE`` writes a page",
    "report": "Written to ``results/report`` unless",
    "reproduce": "table: skip_tuning/02 by default; there are importance_probe/01, ",
    "sample": "launcher: none by default; there are local, slurm\n",
    "status": "``json=true`` prints plain values",
    "train": 'suffix: ""  # at the end of the names of what is exported',
    "tune": "trials: auto  # points tried",
}
ARGPARSE = ("inspect", "verify_golden")


def test_every_program_is_here() -> None:
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {*AT_ONCE, *ARGPARSE}


@pytest.mark.parametrize("name", AT_ONCE)
def test_help(name: str) -> None:
    option = "-h" if name == "measure" else "--help"
    command = [sys.executable, "-X", "importtime", str(ROOT / f"scripts/{name}.py"), "scale=desk", option]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    assert AT_ONCE[name] in done.stdout
    assert "defaults:" not in done.stdout and "hydra:" not in done.stdout
    assert " torch\n" not in done.stderr  # nothing that takes seconds was imported


def test_help_of_one_benchmark() -> None:
    command = [sys.executable, str(ROOT / "scripts/benchmark.py"), "sharing", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "configs/benchmark/sharing.yaml" in done.stdout
    assert "configs/benchmark/sampling.yaml" not in done.stdout


@pytest.mark.parametrize("name", ARGPARSE)
def test_help_of_programs_with_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"scripts.{name}").main(["--help"])
    assert ended.value.code == 0 and "usage: " in capsys.readouterr().out


def test_groups_are_those_that_a_user_chooses() -> None:
    said = usage("reproduce")
    assert "probes" not in said and "job_logging" not in said and "\nscale: desk by default" in said
    assert list(groups(["_self_", {"override hydra/launcher": "local"}, {"probe@probes.text": "text"}])) == []
