"""Many processes on one run store: claims, crashes, clocks, broken chunks, broken disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from runtime_tasks import Logged, error_of, fill_logged, logged_tasks

from skiptune.runtime.claims import (
    EXPIRY,
    claimed,
    claiming,
    claims_in,
    is_unclear,
    made_once,
    start_of,
    this_process,
)
from skiptune.runtime.filling import fill
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers

ELSEWHERE = {"host": "node7", "boot": "another", "namespace": "pid:[1]", "pid": 4711, "start": "1"}


def leave_claim(target: Path, owner: dict, age: float = 0.0) -> Path:
    """A claim file as a process that then died would leave it, last touched `age` seconds ago."""
    path = target.with_name(f".{target.name}.0.claim")
    path.write_text(json.dumps({**owner, "token": "0"}))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def mine(target: Path) -> bool:
    with claiming([target]) as paths:
        return paths == [target]


def computed(log: Path) -> Counter[int]:
    return Counter(int(line.split()[1]) for line in log.read_text().splitlines())


def test_processes_that_start_one_run_at_once_share_it_and_a_killed_one_costs_its_chunk_alone(
    tmp_path, processes
):
    log, n = tmp_path / "log", 30
    ready = processes.Barrier(4)
    slow = processes.Process(target=fill_logged, args=(tmp_path / "store", Logged(log, 60.0), n, ready))
    quick = [
        processes.Process(target=fill_logged, args=(tmp_path / "store", Logged(log), n, ready))
        for _ in range(3)
    ]
    for process in (slow, *quick):
        process.start()
    run = logged_tasks(RunStore(tmp_path / "store"), Logged(log), n)[0].chunks[0].run
    while not (log.exists() and f"{slow.pid} " in log.read_text()):
        time.sleep(0.01)
    (lost,) = (
        int(line.split()[1]) for line in log.read_text().splitlines() if line.split()[0] == str(slow.pid)
    )
    while len(run.missing(n)) > 1:
        time.sleep(0.01)
    assert all(process.is_alive() for process in quick)  # they wait for the chunk that is being made
    assert run.chunk_path(lost) in claimed([run.chunk_path(0).parent])
    slow.kill()
    for process in (slow, *quick):
        process.join(60)
    assert [process.exitcode for process in quick] == [0, 0, 0]
    assert computed(log) == Counter(range(n)) + Counter([lost])
    assert [int(run.read_chunk(i)["seeds"][0]) for i in range(n)] == [250 * i for i in range(n)]
    assert {path.suffix for path in (run.folder / "chunks").iterdir()} == {".safetensors"}


def test_a_claim_of_another_machine_holds_until_it_expires(tmp_path):
    target = tmp_path / "target"
    claim = leave_claim(target, ELSEWHERE)
    assert not mine(target) and claimed([tmp_path]) == {target}
    leave_claim(target, ELSEWHERE, EXPIRY - 20)
    assert not mine(target)
    leave_claim(target, ELSEWHERE, EXPIRY + 20)
    assert claimed([tmp_path]) == set()
    with claiming([target]) as paths:
        assert paths == [target] and [c.generation for c in claims_in(tmp_path)] == [0, 1]
    assert not claim.exists() and claims_in(tmp_path) == []


def test_a_claim_of_a_dead_process_of_this_machine_holds_nobody_up(tmp_path):
    target = tmp_path / "target"
    gone = subprocess.Popen(["true"])
    gone.wait()
    leave_claim(target, {**this_process(), "pid": gone.pid})
    assert mine(target)
    leave_claim(target, {**this_process(), "start": "1"})  # its number now belongs to another process
    assert mine(target)
    leave_claim(target, this_process(), 10 * EXPIRY)  # alive, though it could not touch the file for long
    assert not mine(target)


def test_a_stopped_process_holds_its_claim_until_it_expires(tmp_path):
    target = tmp_path / "target"
    suspended = subprocess.Popen(["sleep", "60"])
    try:
        suspended.send_signal(signal.SIGSTOP)
        owner = {**this_process(), "pid": suspended.pid, "start": start_of(suspended.pid)}
        while not is_unclear(suspended.pid):
            time.sleep(0.01)
        leave_claim(target, owner)
        assert not mine(target)
        leave_claim(target, owner, EXPIRY + 20)
        assert mine(target)
    finally:
        suspended.kill()
        suspended.wait()


def test_a_claim_that_does_not_show_yet_is_waited_for(tmp_path):
    """As on a network file system: its file cannot be created, but is not in the listing either."""
    run = logged_tasks(RunStore(tmp_path), Logged(tmp_path / "log"), 1)[0].chunks[0].run
    claim = run.chunk_path(0).with_name(f".{run.chunk_path(0).name}.0.claim")
    claim.parent.mkdir(parents=True)
    claim.symlink_to(claim)
    assert claims_in(claim.parent) == []
    threading.Timer(1.5, claim.unlink).start()
    rounds = []

    class Counted(Workers):
        def run(self, tasks, on_done=None):
            rounds.append(len(tasks))
            return super().run(tasks, on_done)

    fill(
        logged_tasks(RunStore(tmp_path), Logged(tmp_path / "log"), 1), RunStore(tmp_path), Counted(1), "", 250
    )
    assert run.has_chunk(0) and 2 <= len(rounds) <= 4


def test_of_many_that_pass_a_dead_claim_one_gets_it(tmp_path):
    for attempt in range(20):
        target, ready, winners = tmp_path / f"{attempt}", threading.Barrier(8), []
        leave_claim(target, ELSEWHERE, 2 * EXPIRY)

        def take(target=target, ready=ready, winners=winners):
            ready.wait()
            with claiming([target]) as paths:
                winners.extend(paths)
                ready.wait()

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert winners == [target]


SKEWED_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += atol(getenv("SKEW"));
    return code;
}
"""
IN_ANOTHER_TIME = """
import sys, time
sys.path[:0] = sys.argv[3:]
from pathlib import Path
import test_claims as t
from skiptune.runtime.files import remove_stale
assert abs(time.time() - float(sys.argv[2])) > 80_000, "the clock is not skewed"
folder = Path(sys.argv[1])
half = folder / ".00001.safetensors.1-a.tmp"
half.write_bytes(b"half")
t.leave_claim(folder / "target", t.ELSEWHERE)
assert not t.mine(folder / "target"), "a living claim was passed"
t.leave_claim(folder / "target", t.ELSEWHERE, 2 * t.EXPIRY)
assert t.mine(folder / "target"), "a dead claim was respected"
remove_stale(folder)
assert half.exists(), "another machine is writing it"
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler makes a skewed clock")
@pytest.mark.parametrize("skew", [-86400, 86400])
def test_this_machines_clock_does_not_matter(tmp_path, skew):
    """In a process whose clock is a day off, as the C library tells it."""
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(SKEWED_CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", IN_ANOTHER_TIME, str(tmp_path), str(time.time()), str(here), *sys.path]
    clock = {"LD_PRELOAD": str(library), "SKEW": str(skew)}
    done = subprocess.run(command, env={**os.environ, **clock}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_is_made_once_is_waited_for(tmp_path):
    target, calls = tmp_path / "target", []

    def make():
        calls.append(1)
        time.sleep(0.2)
        target.touch()

    threads = [threading.Thread(target=made_once, args=(target, make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1] and claims_in(tmp_path) == []


def test_a_cut_off_chunk_and_one_of_another_version_are_named(tmp_path):
    fill_logged(tmp_path, Logged(tmp_path / "log", 0.0), 2)
    store = RunStore(tmp_path)
    run = store.open(Logged(tmp_path / "log").resolved())
    newer = store.open({**run.settings, "numerics": 2})
    assert newer.id != run.id and newer.missing(2) == [0, 1]
    newer.write_chunk(0, {"x": torch.zeros(1)})
    shutil.copy(run.chunk_path(1), newer.chunk_path(1))
    assert f"{newer.chunk_path(1)} is damaged (checksum differs)" in error_of(lambda: newer.read_chunk(1))
    run.chunk_path(1).write_bytes(run.chunk_path(1).read_bytes()[:100])
    message = error_of(lambda: fill_logged(tmp_path, Logged(tmp_path / "log", 0.0), 3))
    assert str(run.chunk_path(1)) in message and "delete it and run the same command again" in message
    assert not run.has_chunk(2)  # said before any work is spent


@pytest.fixture
def disk(tmp_path):
    """A file system of half a megabyte of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here: needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_one_line_and_what_was_written_stays_whole(tmp_path, disk):
    settings = Logged(tmp_path / "log", 0.0)
    message = error_of(lambda: fill_logged(disk, settings, 1000))
    assert "No space left on device" in message and "choose a writable folder with free space" in message
    run = RunStore(disk).open(settings.resolved())
    there = [i for i in range(1000) if run.has_chunk(i)]
    assert there and [int(run.read_chunk(i)["seeds"][0]) for i in there] == [250 * i for i in there]
    assert claims_in(run.folder / "chunks") == [] and not list(disk.rglob("*.tmp"))


def test_a_read_only_store_is_readable_and_one_line_where_it_must_be_written(tmp_path, disk):
    settings = Logged(tmp_path / "log", 0.0)
    fill_logged(disk, settings, 2)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    fill_logged(disk, settings, 2)
    assert "Read-only file system" in error_of(lambda: fill_logged(disk, settings, 3))
    assert RunStore(disk).open(settings.resolved()).read_chunk(1)["seeds"][0] == 250
