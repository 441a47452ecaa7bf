"""The launchers of a multirun: which command lines the jobs are, which are named, what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from script_commands import Shell

from hydra_plugins.skiptune_launchers import LocalLauncher
from scripts import reproduce
from skiptune.errors import SkiptuneError

JOB = "import sys; print(sys.argv[1:]); sys.exit(2 if 'a=2' in sys.argv else 0)"


def launcher(folder: Path) -> LocalLauncher:
    made: Any = LocalLauncher(at_once=2)
    overrides = ["hydra.mode=MULTIRUN", "hydra.launcher.at_once=2", "hydra.verbose=true"]
    hydra = {"overrides": {"hydra": overrides}, "runtime": {"cwd": str(folder)}}
    config = OmegaConf.create({"workers": "auto", "hydra": hydra})
    made.setup(hydra_context=None, task_function=None, config=config)
    return made


def test_jobs_are_command_lines_and_one_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text(JOB)
    monkeypatch.setattr(sys, "argv", [str(script)])
    with pytest.raises(SkiptuneError, match=r"^1 of 2 jobs failed: a=2$"):
        launcher(tmp_path).launch([["a=1", "b=3", "launcher=local"], ["a=2", "b=3", "launcher=local"]], 0)
    said = capfd.readouterr()
    assert "['a=1', 'b=3', 'workers=1', 'hydra.verbose=true']\n" in said.out
    assert said.err == "error: it ended with code 2; its messages say why (job a=2)\n"
    assert len(launcher(tmp_path).launch([["a=1", "workers=3"]], 0)) == 1
    assert capfd.readouterr().out == "['a=1', 'workers=3', 'hydra.verbose=true']\n"


def test_a_training_is_not_for_torchrun(shell: Shell, tmp_path: Path) -> None:
    done = shell.run(tmp_path, "train.py", "training=edm_glyphs", "model=edm_glyphs", processes=2)
    assert done.code != 0 and "give training.workers, without torchrun" in done.err and not done.out


def test_processes_of_ones_own_are_not_for_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SkiptuneError, match="without torchrun"):
        launcher(tmp_path).launch([["a=1"]], 0)
    with pytest.raises(SkiptuneError, match="without torchrun"):
        reproduce.each_row(["table=skip_tuning/02", reproduce.EACH])
