"""Jobs as processes: what their end is called, how they are stopped, how many run at once."""

from __future__ import annotations

import signal
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from runtime_tasks import Logged

from skiptune.errors import SkiptuneError
from skiptune.runtime.jobs import command
from skiptune.runtime.jobs.command import Command
from skiptune.runtime.jobs.launch import ENDPOINT, job_argv
from skiptune.runtime.jobs.local import run_local, visible_gpus
from skiptune.runtime.jobs.slurm import SlurmSettings
from skiptune.runtime.store import RunStore

HERE = Path(__file__).resolve().parent


def python(name: str, code: str, folder) -> Command:
    return Command(name, [sys.executable, "-c", code], str(folder))


def test_every_end_has_its_line(tmp_path, capfd):
    commands = [
        python("good", "print('{}')", tmp_path),
        python("refused", "import sys; print('error: no such file', file=sys.stderr); sys.exit(2)", tmp_path),
        python("killed", "import os; os.kill(os.getpid(), 9)", tmp_path),
        python("broken", "1 / 0", tmp_path),
    ]
    seen = []
    outcomes = run_local(commands, 2, seen.append)
    assert [(one.name, one.code) for one in outcomes] == [
        ("good", 0),
        ("refused", 2),
        ("killed", -9),
        ("broken", 1),
    ]
    assert sorted(seen, key=outcomes.index) == outcomes and outcomes[0].out == "{}\n"
    assert [one.error for one in outcomes[:3]] == ["", "no such file", "it was killed by SIGKILL"]
    assert "ZeroDivisionError" in capfd.readouterr().err  # what a job says is passed on


def test_no_more_run_at_once_than_asked_for(tmp_path):
    code = "import pathlib, time; pathlib.Path('{0}').touch(); time.sleep(0.3); pathlib.Path('{0}').unlink()"
    most = 0
    done = threading.Event()

    def watch():
        nonlocal most
        while not done.is_set():
            most = max(most, len(list(tmp_path.glob("job*"))))
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run_local([python(f"{i}", code.format(f"job{i}"), tmp_path) for i in range(4)], 2, lambda _: None)
    done.set()
    watcher.join()
    assert 1 <= most <= 2
    with pytest.raises(SkiptuneError, match="use 1 or more"):
        run_local([], 0, lambda _: None)


def test_a_job_has_a_gpu_to_itself(tmp_path, monkeypatch):
    code = "import os, time; a = time.time(); time.sleep(0.3); print(os.environ['{0}'], a, time.time())"
    code = code.format("CUDA_VISIBLE_DEVICES")
    jobs = [python(str(number), code, tmp_path) for number in range(5)]
    said = [outcome.out.split() for outcome in run_local(jobs, 4, lambda _: None, ["3", "5"])]
    assert {gpu for gpu, _, _ in said} == {"3", "5"}
    for gpu in ("3", "5"):
        times = sorted((float(start), float(end)) for name, start, end in said if name == gpu)
        assert all(end <= start for (_, end), (start, _) in pairwise(times))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert visible_gpus() == ["3", "5"]


def test_a_job_that_is_stopped_while_it_starts_ends(tmp_path):
    job = python("early", "import time; time.sleep(60)", tmp_path)
    job.stop()
    assert job().error == "it was killed by SIGTERM"


def test_a_preempted_job_of_several_processes_has_no_outcome_yet(tmp_path, monkeypatch):
    """torchrun ends with an error where one process ends with the code of a stop."""
    script = tmp_path / "ranks.py"
    script.write_text("import os, time; open('up' + os.environ['RANK'], 'w'); time.sleep(60)")
    job = Command("two", job_argv([str(script)], gpus=2), str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setattr(command, "AFTER_TERM", 0.5)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(job()))
    thread.start()
    while len(list(tmp_path.glob("up*"))) < 2:
        time.sleep(0.05)
    told = time.monotonic()
    job._signal(signal.SIGTERM)  # as SLURM does, to every process
    thread.join(60)
    assert (outcomes[0].code, outcomes[0].error) == (143, "it was told to stop; the same command goes on")
    assert time.monotonic() - told > 0.5


def test_before_a_requeue_the_chunk_at_hand_is_finished_and_a_deaf_child_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "DROPPING", 0.5)
    pytest.importorskip("submitit")
    # A compiler that it started, which a signal would end, is left alone.
    polite = """
import signal, subprocess, sys, time
compiler = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_DFL))
def end(*_):
    time.sleep(0.2)
    spared = compiler.poll() is None
    compiler.kill()
    sys.exit(143 if spared else 1)
signal.signal(signal.SIGUSR2, end)
time.sleep(60)
"""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    before = signal.getsignal(signal.SIGUSR2)
    for name, code, patience, ended in (("polite", polite, 30.0, 143), ("deaf", deaf, 0.5, -9)):
        job = Command(name, [sys.executable, "-c", code], str(tmp_path), patience)
        outcomes = []
        thread = threading.Thread(target=lambda job=job, to=outcomes: to.append(job()))
        thread.start()
        while job._child is None:
            time.sleep(0.01)
        again = job.checkpoint().function
        thread.join(30)
        assert outcomes[0].code == ended and again.argv == job.argv
    signal.signal(signal.SIGUSR2, before)


def test_before_a_requeue_all_processes_of_a_job_finish_the_chunks_at_hand(tmp_path):
    pytest.importorskip("submitit")
    script = str(HERE / "runtime_tasks.py")
    job = Command("two", job_argv([script, "stopping", str(tmp_path)], gpus=2), str(tmp_path))
    before, outcomes, log = signal.getsignal(signal.SIGUSR2), [], tmp_path / "log"
    thread = threading.Thread(target=lambda: outcomes.append(job({"PYTHONPATH": str(HERE.parents[1])})))
    thread.start()
    while not log.exists() or len({line.split()[0] for line in log.open()}) < 2:
        time.sleep(0.05)
    job.checkpoint()
    thread.join(60)
    signal.signal(signal.SIGUSR2, before)
    assert (outcomes[0].code, outcomes[0].error) == (143, "it was told to stop; the same command goes on")
    run = RunStore(tmp_path).open(Logged(log).resolved())
    begun = sorted(int(line.split()[1]) for line in log.open())
    assert begun == [i for i in range(400) if run.has_chunk(i)] and len(begun) < 400


def test_a_job_of_several_gpus_is_one_of_torchrun():
    assert job_argv(["x.py", "a=1"], gpus=1) == [sys.executable, "x.py", "a=1"]
    one_node = job_argv(["x.py"], gpus=8)
    assert one_node[1:] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=8", "x.py"]
    assert {"--nnodes=2", ENDPOINT} <= set(job_argv(["x.py"], nodes=2, gpus=8))


def test_settings_of_slurm_make_sense():
    assert SlurmSettings(gpus=8, partition="gpu").parameters()["gpus_per_node"] == 8
    assert "gpus_per_node" not in SlurmSettings().parameters()
    for seconds in (40, 120, 900):  # for the chunk at hand, then for dropping it
        assert 0 < SlurmSettings(minutes=60, warning=seconds).patience < seconds - command.DROPPING
    for wrong in ({"minutes": 0}, {"nodes": "2"}, {"minutes": 1, "warning": 60}, {"warning": 20}):
        with pytest.raises(SkiptuneError, match="launcher"):
            SlurmSettings(**wrong)
