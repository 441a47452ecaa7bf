from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runtime_tasks import SETTINGS, Compute, Die, Fail, Threads, Touch

from skiptune.errors import SkiptuneError
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers, default_workers, one_thread

HERE = Path(__file__).resolve().parent
linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")


@pytest.fixture(scope="module")
def pool():
    with Workers(2) as workers:
        yield workers


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(condition())


def test_bits_are_equal_for_one_and_two_workers(tmp_path, pool):
    alone, together = RunStore(tmp_path / "1").open(SETTINGS), RunStore(tmp_path / "2").open(SETTINGS)
    done: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Workers(1) as one:
            pids = one.run([Compute(alone, i) for i in range(4)], lambda task: done.append(task.i))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(pids) == {os.getpid()}
    assert done == [0, 1, 2, 3]
    first = pool.run([Compute(together, i) for i in range(4)], lambda task: done.append(task.i))
    assert sorted(done[4:]) == [0, 1, 2, 3]
    for i in range(4):
        assert alone.chunk_path(i).read_bytes() == together.chunk_path(i).read_bytes()
    again = pool.run([Compute(together, i) for i in range(4)])
    assert os.getpid() not in first
    assert len(set(first + again)) <= 2  # the pool lives on
    assert pool.run([Threads()]) == [(1, "1")]
    assert pool.run([]) == []


def test_one_thread_is_in_force_and_taken_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_failure_lets_the_running_finish_and_drops_the_rest(tmp_path, pool):
    paths = [tmp_path / str(i) for i in range(4)]
    tasks = [Touch(paths[0], 1.0), Fail("chunk 7 is bad: delete it"), *(Touch(path) for path in paths[1:])]
    with pytest.raises(SkiptuneError, match="^chunk 7 is bad: delete it$"):
        pool.run(tasks)
    assert paths[0].exists()
    assert not any(path.exists() for path in paths[1:])


def test_failure_in_this_process_stops_at_once(tmp_path):
    with Workers(1) as workers, pytest.raises(SkiptuneError, match="bad"):
        workers.run([Fail("bad"), Touch(tmp_path / "x")])
    assert not (tmp_path / "x").exists()


def test_killed_worker_is_reported_and_the_pool_works_again(tmp_path, pool):
    with pytest.raises(SkiptuneError, match="a worker process was killed .*chunks are kept") as caught:
        pool.run([Die(), Touch(tmp_path / "x", 60.0)])
    assert "\n" not in str(caught.value)
    pool.run([Touch(tmp_path / "y")])
    assert (tmp_path / "y").exists()


def workers_of(parent: int) -> list[int]:
    """Ids of the spawned children of a process, from their first moment on."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    return [pid for pid, command in commands.items() if "--multiprocessing-fork" in command]


def deaf_to_interrupts(pid: int) -> bool:
    lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    masks = [int(line[1], 16) for line in lines if line[0] in ("SigBlk:", "SigIgn:")]
    return any(mask >> (signal.SIGINT - 1) & 1 for mask in masks)


@pytest.fixture
def parent(tmp_path, environment):
    """A process whose one worker is to write `busy` and to go on for two minutes."""
    parent = subprocess.Popen(
        [sys.executable, str(HERE / "runtime_tasks.py"), "sleep", str(tmp_path / "busy")],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run in the background inherits a deaf ear for Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert wait_until(lambda: workers_of(parent.pid), 180), "no worker was started"
        yield parent
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


@linux
def test_worker_ends_when_its_parent_is_killed(parent, tmp_path):
    assert wait_until((tmp_path / "busy").exists, 180)
    (worker,) = workers_of(parent.pid)
    parent.kill()
    assert wait_until(lambda: not alive(worker), 5)


@linux
@pytest.mark.parametrize("moment", ["importing", "busy"])
def test_ctrl_c_ends_quickly_without_a_word_from_workers(parent, tmp_path, moment):
    if moment == "busy":
        assert wait_until((tmp_path / "busy").exists, 180)
    (worker,) = workers_of(parent.pid)
    assert deaf_to_interrupts(worker)
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to parent and workers
    _, errors = parent.communicate(timeout=20)
    assert not alive(worker)
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")


def test_count_is_checked():
    with pytest.raises(SkiptuneError, match="use 1 or more"):
        Workers(0)
    assert 1 <= default_workers() <= (os.cpu_count() or 1)
