from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runtime_tasks import SETTINGS, chunk

from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import World, barrier, share, world
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import one_thread

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def outside_torchrun(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_without_torchrun():
    assert world() == World(0, 1, 0)
    assert world().is_main
    barrier()


def test_world_is_read_from_the_environment(monkeypatch):
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert world() == World(5, 8, 1)
    assert not world().is_main
    with pytest.raises(SkiptuneError, match="start with torchrun"):
        barrier()


@pytest.mark.parametrize(("rank", "size"), [("0", None), (None, "2"), ("2", "2"), ("-1", "2"), ("0", "x")])
def test_senseless_world_is_refused(monkeypatch, rank, size):
    for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(SkiptuneError, match="start with torchrun or unset them"):
        world()


def test_shares_are_disjoint_and_complete():
    shares = [list(share(range(11), World(rank, 3))) for rank in range(3)]
    assert shares[1] == [1, 4, 7, 10]
    assert sorted(sum(shares, [])) == list(range(11))


def test_two_processes_of_torchrun_make_the_same_bits_as_one(tmp_path, environment):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = [str(HERE / "runtime_tasks.py"), "torchrun", str(tmp_path / "two")]
    finished = subprocess.run(command + script, env=environment, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert "Warning" not in finished.stderr
    two, one = RunStore(tmp_path / "two").open(SETTINGS), RunStore(tmp_path / "one").open(SETTINGS)
    assert two.record() == {"size": 2, "missing": []}  # rank 0 went on only after all had finished
    with one_thread():
        for i in range(5):
            one.write_chunk(i, chunk(i))
            assert one.chunk_path(i).read_bytes() == two.chunk_path(i).read_bytes()
