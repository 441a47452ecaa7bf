"""Hydra launchers: the jobs of a multirun as processes of their own, here or through SLURM.

Every job is the command line that one would type for it alone, so it can be typed again. A job that fails
does not stop the others and is named at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import world
from skiptune.runtime.jobs.command import Command, Outcome
from skiptune.runtime.jobs.launch import job_argv
from skiptune.runtime.jobs.local import run_local, visible_gpus
from skiptune.runtime.jobs.slurm import SlurmSettings, run_slurm


class CommandLauncher(Launcher):
    """What both have in common: overrides to command lines, outcomes to lines on stdout and stderr.

    A dry run is not launched: its jobs say in this process what they would take.
    """

    config: DictConfig
    here: BasicLauncher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.here = config, BasicLauncher()
        self.here.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if world().size > 1:
            raise SkiptuneError("a launcher starts processes of its own: start the sweep without torchrun")
        if self.config.get("dry_run"):
            return self.here.launch(job_overrides, initial_job_idx)
        common = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
        commands = [self.command(list(overrides), common) for overrides in job_overrides]
        outcomes = self.run(commands)
        failed = [outcome.name for outcome in outcomes if outcome.code]
        if failed:
            raise SkiptuneError(f"{len(failed)} of {len(outcomes)} jobs failed: {'; '.join(failed)}")
        return [
            _returned(list(overrides), outcome)
            for overrides, outcome in zip(job_overrides, outcomes, strict=True)
        ]

    def command(self, overrides: list[str], common: set[str]) -> Command:
        """The job of these overrides, named by those that not all have; as many workers as it has cores.

        It launches nothing itself, so it is not given the launcher.
        """
        overrides = [override for override in overrides if override.partition("=")[0] != "launcher"]
        keys = {override.lstrip("+~").partition("=")[0] for override in overrides}
        cores = self.cores()
        share = [f"workers={cores}"] if cores and "workers" in self.config and "workers" not in keys else []
        hydra = [
            override
            for override in self.config.hydra.overrides.hydra
            if not override.lstrip("+~").startswith(
                ("hydra.mode", "hydra.launcher", "hydra/launcher", "hydra.sweep")
            )
        ]
        script = [str(Path(sys.argv[0]).resolve()), *overrides, *share, *hydra]
        name = " ".join(override for override in overrides if override not in common)
        return Command(name, self.argv(script), str(self.config.hydra.runtime.cwd))

    def argv(self, script: list[str]) -> list[str]:
        return job_argv(script)

    def cores(self) -> int:
        """Worker processes of a job; 0 leaves them to it."""
        return 1

    def run(self, commands: list[Command]) -> list[Outcome]:
        raise NotImplementedError


class LocalLauncher(CommandLauncher):
    """Processes on this machine, ``at_once`` at a time, each with a GPU of its own where there are some."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once

    def run(self, commands: list[Command]) -> list[Outcome]:
        return run_local(commands, self.at_once, report, visible_gpus())


class SlurmLauncher(CommandLauncher):
    """A SLURM array through submitit; the settings are those of ``SlurmSettings``."""

    def __init__(self, **settings: Any) -> None:
        self.settings = SlurmSettings(**settings)

    def argv(self, script: list[str]) -> list[str]:
        return job_argv(script, self.settings.nodes, self.settings.gpus)

    def cores(self) -> int:
        return 0 if self.settings.gpus or self.settings.nodes > 1 else self.settings.cpus

    def run(self, commands: list[Command]) -> list[Outcome]:
        folder = Path(str(self.config.hydra.sweep.dir)).absolute() / "slurm"
        return run_slurm(commands, self.settings, folder, report)


def report(outcome: Outcome) -> None:
    """Pass on what a job printed, or name it with what went wrong."""
    print(outcome.out, end="", flush=True)
    if outcome.code:
        print(f"error: {outcome.error} (job {outcome.name})", file=sys.stderr, flush=True)


def _returned(overrides: list[str], outcome: Outcome) -> JobReturn:
    done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    done.return_value = outcome.code
    return done
