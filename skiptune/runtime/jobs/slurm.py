"""Jobs through SLURM: one array of submitit's, waited for without accounting.

submitit asks ``sacct`` how a job without a result ended, and waits for ever where accounting is off. Here the
queue itself is asked (``squeue``): a job that ended badly, or is in the queue no more, has failed.
"""

from __future__ import annotations

import getpass
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import is_shown
from skiptune.runtime.jobs.command import DROPPING, Command, Outcome

ALIVE = {
    "PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
    "RESIZING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "PREEMPTED", "RESV_DEL_HOLD",
}  # fmt: skip
CODE = Path(__file__).resolve().parents[3]
GRACE = 15.0  # seconds for a result to become visible, or for a job to be back in the queue
POLL = 2.0


@dataclass(frozen=True)
class SlurmSettings:
    """What is asked of SLURM for every job.

    Attributes:
        nodes, gpus: machines per job, and GPUs of each; a process runs on every GPU (torchrun).
        minutes: time limit of one start.
        warning: seconds before the limit at which the job is told, finishes its chunk and is requeued. SLURM
            may tell up to a minute earlier.
        requeue: how often a job may reach its limit and go on; preemptions are not counted.
        at_once: jobs of the array that run at the same time.
        memory: per node, as ``sbatch --mem`` takes it; null leaves it to the cluster.
        setup: shell lines before the job, such as ``module load cuda``.
        more: further options of sbatch by name.
    """

    nodes: int = 1
    gpus: int = 0
    cpus: int = 1
    minutes: int = 60
    warning: int = 120
    requeue: int = 10
    at_once: int = 16
    partition: str | None = None
    account: str | None = None
    memory: str | None = None
    setup: Sequence[str] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus", "minutes", "at_once"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise SkiptuneError(f"launcher: {name} is {getattr(self, name)!r}, a whole number from 1")
        if self.warning <= 2 * DROPPING:
            raise SkiptuneError(f"launcher: a warning of {self.warning} s leaves no time to finish a chunk")
        if self.warning >= 60 * self.minutes:
            raise SkiptuneError(
                f"launcher: a warning {self.warning} s before a limit of {self.minutes} min comes too early"
            )

    @property
    def patience(self) -> float:
        """Seconds for the chunk at hand, which leave time to drop it and to be back in the queue."""
        return self.warning - 2 * DROPPING

    def parameters(self) -> dict[str, Any]:
        """For submitit's executor."""
        given = {
            "nodes": self.nodes,
            "ntasks_per_node": 1,  # torchrun starts the others
            "gpus_per_node": self.gpus or None,
            "cpus_per_task": self.cpus,
            "time": self.minutes,
            "signal_delay_s": self.warning,
            "array_parallelism": self.at_once,
            "partition": self.partition,
            "account": self.account,
            "mem": self.memory,
            # The code that submits is the code that runs, whichever is installed.
            "setup": [
                f'export PYTHONPATH={shlex.quote(str(CODE))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
                *self.setup,
            ],
            "job_name": "skiptune",
            "additional_parameters": {"requeue": True, **self.more},
        }
        return {key: value for key, value in given.items() if value is not None}


def run_slurm(
    commands: Sequence[Command], settings: SlurmSettings, folder: Path, on_done: Callable[[Outcome], None]
) -> list[Outcome]:
    """Submit all and wait; returns their outcomes in order. submitit's files and the logs go to ``folder``.

    A job that is preempted or reaches its limit goes back into the queue by itself. Interrupted, the waiting
    ends and the jobs go on.

    Raises:
        SkiptuneError: no SLURM or no submitit here, or SLURM refuses the jobs.
    """
    if shutil.which("sbatch") is None:
        raise SkiptuneError("there is no SLURM on this machine (no sbatch); use launcher=local")
    if importlib.util.find_spec("submitit") is None:
        raise SkiptuneError("launcher=slurm needs submitit: pip install submitit")
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    for command in commands:
        command.patience = settings.patience
    executor = SlurmExecutor(folder, max_num_timeout=settings.requeue, python=sys.executable)
    executor.update_parameters(**settings.parameters())
    try:
        jobs = executor.submit_array(list(commands))
    except (FailedJobError, FailedSubmissionError) as error:
        why = [line for line in str(error).splitlines() if "error" in line.lower()] or str(error).splitlines()
        raise SkiptuneError(f"SLURM refused the jobs: {why[-1].strip()}") from None
    print(f"slurm: {len(jobs)} jobs, {jobs[0].job_id.split('_')[0]}, logs in {folder}", file=sys.stderr)
    jobs = [job.task(0) for job in jobs]  # of several nodes the first speaks
    found: dict[int, Outcome] = {}
    bad_since: dict[int, float] = {}
    while True:
        states = queue()
        for i, (job, command) in enumerate(zip(jobs, commands, strict=True)):
            if i in found:
                continue
            if job.paths.result_pickle.exists():
                found[i] = _result(job, command)
            elif states is not None and (state := states.get(job.job_id, "GONE")) not in ALIVE:
                if time.monotonic() - bad_since.setdefault(i, time.monotonic()) > GRACE:
                    late = _came_late(job)
                    found[i] = _result(job, command) if late else _without_result(job, command, state)
            else:
                bad_since.pop(i, None)
            if i in found:
                on_done(found[i])
        if len(found) == len(jobs):
            return [found[i] for i in range(len(jobs))]
        time.sleep(POLL)


def queue() -> dict[str, str] | None:
    """State of all jobs of this user by id, those that ended a moment ago included; None: no answer."""
    command = ["squeue", "-r", "-h", "-t", "all", "-u", getpass.getuser(), "-o", "%i|%T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    if answer.returncode:
        return None
    return dict(line.split("|", 1) for line in answer.stdout.split())


def _result(job: Any, command: Command) -> Outcome:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        outcome = job.result()
    except (FailedJobError, UncompletedJobError) as error:
        raised = re.findall(r"^[\w.]+(?:Error|Exception)\b.*", str(error), re.MULTILINE)
        return Outcome(command.name, 1, error=f"{raised[-1] if raised else error}, log {job.paths.stderr}")
    assert isinstance(outcome, Outcome)
    return outcome


def _came_late(job: Any) -> bool:
    """Whether its node has written a result that a network file system did not show here yet."""
    try:
        return is_shown(job.paths.result_pickle, seconds=1.0)
    except SkiptuneError:  # nothing can be written here: then as it looks
        return False


def _without_result(job: Any, command: Command, state: str) -> Outcome:
    why = "left the queue" if state == "GONE" else f"ended as {state}"
    job_said = f"SLURM job {job.job_id} {why} without a result (killed? out of memory?)"
    return Outcome(command.name, 1, error=f"{job_said}, log {job.paths.stderr}")
