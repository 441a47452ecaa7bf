"""Several processes of one job, gloo between them: one that fails or dies stops the others within seconds."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
from runtime_tasks import Logged, alone, member, told_to_stop, watcher
from torch.distributed import FileStore

from skiptune.runtime.store import RunStore


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(processes, root, n_chunks, end):
    """Three ranks as a scheduler would start them: nothing but the environment joins them."""
    port = free_port()
    ranks = [processes.Process(target=member, args=(rank, 3, port, root, n_chunks, end)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    return ranks


@pytest.mark.parametrize(
    ("end", "error"),
    [("failed", "rank 1 of 3 failed: no room on node7"), ("killed", "rank 1 of 3 ended without a word")],
)
def test_the_others_stop_with_the_error_of_a_rank_and_keep_what_is_finished(tmp_path, processes, end, error):
    ranks = start(processes, tmp_path, 400, end)
    ranks[1].join(60)
    died = time.time()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [2, -9 if end == "killed" else 2, 2]
    for rank in (0, 2):
        at, _, message = (tmp_path / f"error{rank}").read_text().partition(" ")
        assert message.startswith(error) and "finished chunks are kept" in message
        assert float(at) - died < 5
    run = RunStore(tmp_path).open(Logged(tmp_path / "log").resolved())
    there = [i for i in range(400) if run.has_chunk(i)]
    assert there and all(int(run.read_chunk(i)["seeds"][0]) == 250 * i for i in there)
    assert run.failure() is None  # the chunks that the others were at have not failed


def test_ranks_that_end_well_disturb_nobody_and_one_line_counts_the_whole_job(tmp_path, processes):
    ranks = start(processes, tmp_path, 12, "well")
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0, 0]
    pids = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert len(pids) == 12 and len(set(pids)) == 3
    first, *others = ((tmp_path / f"stderr{rank}").read_text() for rank in range(3))
    assert "logged: 3000/3000 img" in first and first.count("\n") == 1 and others == ["", ""]


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(0, [0.05, 1.0, 0.3]), (1, [0.05, 1.0, 0.3]), (2, [0.3, 1.0, 0.05]), (0, [0, 1.0, 0]), (2, [1.0, 0, 0])],
)
def test_told_one_of_them_all_finish_what_they_are_at_and_end_together(tmp_path, processes, told, seconds):
    """Those with 0 seconds wait for the others, in a barrier."""
    port = free_port()
    given = (3, port, tmp_path, 400, seconds)
    ranks = [processes.Process(target=told_to_stop, args=(rank, *given)) for rank in range(3)]
    for rank in ranks:
        rank.start()
    log = tmp_path / "log"
    while not log.exists() or len({line.split()[0] for line in log.open()}) < sum(s > 0 for s in seconds):
        time.sleep(0.02)
    os.kill(ranks[told].pid, signal.SIGUSR2)
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [143, 143, 143]
    run = RunStore(tmp_path).open(Logged(log).resolved())
    begun = sorted(int(line.split()[1]) for line in log.open())
    assert begun == [i for i in range(400) if run.has_chunk(i)] and len(begun) < 400
    assert not list(run.folder.glob("chunks/*.claim"))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_other_never_came_says_so(tmp_path, processes, rank):
    process = processes.Process(target=alone, args=(rank, free_port(), tmp_path))
    process.start()
    process.join(30)
    assert process.exitcode == 2
    assert "the 2 processes of this job did not meet" in (tmp_path / f"error{rank}").read_text()


def test_strangers_at_the_door_hold_nobody_up(tmp_path, processes):
    first, second = (processes.Process(target=watcher, args=(rank, tmp_path)) for rank in range(2))
    first.start()
    port = int(FileStore(str(tmp_path / "meeting"), 2).get("port"))
    silent, rude = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
    rude.sendall(b"7\n")
    second.start()
    for process in (first, second):
        process.join(30)
        assert process.exitcode == 0
    silent.close()
    rude.close()
