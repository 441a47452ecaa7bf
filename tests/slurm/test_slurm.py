"""A table through a real SLURM of one node without accounting: a job preempted, one killed, two done."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cluster import Cluster, lacking

ROOT = Path(__file__).resolve().parents[2]
REASON = lacking() or ("" if importlib.util.find_spec("submitit") else "submitit is not installed")
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

PREEMPTED, KILLED = 7, 6  # rows by their number of steps
TABLE = (
    "table=skip_tuning/2",
    "table.claims=[]",
    "table.figures=[]",
    "~table.tuning",
    "scale.seeds.report={first: 0, count: 2, size: 250}",
    "scale.roles.class_conditional_edm.reference_images=300",
    "tracker=none",
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder)) as cluster:
        yield cluster


def row_settings(*steps: int) -> str:
    """A row for each of these numbers of steps."""
    found = (
        f"{{id: steps{n}, label: {n} steps, arm: baseline, role: class_conditional_edm, "
        f"sampler: {{name: euler, steps: {n}}}, intervention: {{name: none}}}}"
        for n in steps
    )
    return f"table.rows=[{', '.join(found)}]"


class Watched:
    """The command, started, with what it has said so far and left in its run store."""

    def __init__(self, cluster: Cluster, folder: Path, steps: Sequence[int], *more: str) -> None:
        self.folder, self.errors = folder, folder / "stderr"
        table = (*TABLE, row_settings(*steps), "rows=each", "launcher=slurm")
        command = (str(ROOT / "scripts/reproduce.py"), *table, *more)
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=folder,
                env={**cluster.environment, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def wait(self, condition) -> object:
        end = time.monotonic() + 600
        while not (found := condition()):
            assert self.process.poll() is None and time.monotonic() < end, self.errors.read_text()
            time.sleep(0.1)
        return found

    def chunks(self, steps: int, pattern: str) -> list[Path]:
        """The files of that kind which the row's run has."""
        for settings in self.folder.glob("outputs/runs/*/settings.json"):
            if json.loads(settings.read_text()).get("sampler", {}).get("steps") == steps:
                return sorted((settings.parent / "chunks").glob(pattern))
        return []

    def job(self) -> str | None:
        match = re.search(r"slurm: \d jobs, (\d+)", self.errors.read_text())
        return match and match[1]


def kill_without_warning(argument: str) -> None:
    """SIGKILL to the process that SLURM started for a job, as when memory runs out: it leaves no result."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if argument.encode() in words and b"-m" not in words:
                parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
                os.kill(parent, signal.SIGKILL)
                return
    raise AssertionError(f"no job with {argument} is running")


def test_a_preempted_job_goes_on_and_a_killed_one_is_named_in_the_table(cluster, tmp_path):
    limits = ("hydra.launcher.minutes=10", f"hydra.launcher.at_once={os.cpu_count()}")
    watched = Watched(cluster, tmp_path, (PREEMPTED, KILLED, 1, 2), *limits)
    job = watched.wait(watched.job)
    watched.wait(lambda: watched.chunks(KILLED, "*.claim"))
    kill_without_warning(f"rows=steps{KILLED}")
    watched.wait(lambda: watched.chunks(PREEMPTED, "*.claim"))
    cluster.ask("scancel", "--signal=USR2", f"{job}_0")
    first, *_ = watched.wait(lambda: watched.chunks(PREEMPTED, "*.safetensors"))
    written = first.stat().st_mtime_ns

    out, _ = watched.process.communicate(timeout=600)
    errors = watched.errors.read_text()
    assert watched.process.returncode == 2, errors
    assert f"job rows=steps{KILLED}" in errors and "without a result" in errors
    assert f"1 of 4 jobs failed: rows=steps{KILLED}" in errors
    log = (tmp_path / f"outputs/multirun/slurm/{job}_0_0_log.err").read_text()
    assert "stopped by SIGUSR2" in log
    assert first.stat().st_mtime_ns == written and len(watched.chunks(PREEMPTED, "*.safetensors")) == 2

    table = json.loads((tmp_path / "results/desk/skip_tuning/table_02.json").read_text())
    rows = {row["label"]: row for row in table["rows"]}
    assert (
        rows[f"{KILLED} steps"]["status"] == "not run"
        and rows[f"{KILLED} steps"]["reason"] == "not computed yet"
    )
    for steps in (PREEMPTED, 1, 2):
        assert rows[f"{steps} steps"]["nfe"] == steps and rows[f"{steps} steps"]["values"]["fid"]["n"] == 2
    assert "not run: not computed yet" in out


def test_jobs_make_room_for_more_urgent_ones_and_go_on(cluster, tmp_path):
    """SLURM itself ends them (SIGTERM) and puts them back into its queue."""
    watched = Watched(
        cluster, tmp_path, (PREEMPTED, 1), "hydra.launcher.minutes=10", "hydra.launcher.at_once=1"
    )
    job = watched.wait(watched.job)
    first, *_ = watched.wait(lambda: watched.chunks(PREEMPTED, "*.safetensors"))
    written = first.stat().st_mtime_ns
    everything = ("--partition=urgent", f"--cpus-per-task={os.cpu_count()}", "--output=/dev/null")
    cluster.ask("sbatch", *everything, "--wrap=sleep 2")

    out, _ = watched.process.communicate(timeout=600)
    errors = watched.errors.read_text()
    assert watched.process.returncode == 0, errors
    assert re.search(rf"JobId=\S+ .*ArrayJobId={job} .*Restarts=1", cluster.jobs), cluster.jobs
    assert first.stat().st_mtime_ns == written and len(watched.chunks(PREEMPTED, "*.safetensors")) == 2
    assert f"{PREEMPTED} steps" in out and "not run" not in out
