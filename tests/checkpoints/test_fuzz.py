"""Ten thousand damaged files: each loads or is refused in one line, at once, and nothing is ever run.

Hypothesis draws the mutations, always the same, and shrinks those of a failure to the least.
"""

import contextlib
import io
import pickle
import resource
import signal

import numpy as np
import pytest
import torch
from hostile import (
    module_state,
    nested,
    payload,
    record,
    snapshot,
    tensor,
    torch_tar,
    torch_zip,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import mutate
from torch import nn
from watching import watched

from experiments.benchmarks.official_layout import write_edm, write_edm2
from skiptune.checkpoints.reading.persistence import network_record
from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.errors import SkiptuneError

FILES = 10_000
SECONDS = 20  # of computing, for one file


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1)})


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Small files of every format, and some hostile ones: a mutation may arm them anew."""
    path = tmp_path_factory.mktemp("seeds") / "network.pkl"
    write_edm(path, "EDMPrecond", {"img_resolution": 8}, Small())
    files = [path.read_bytes(), torch_tar()]
    write_edm2(path, "Precond", {"img_resolution": 8}, Small())
    files.append(path.read_bytes())
    files += [pickle.dumps({"a": np.ones((2, 3)), "b": np.float32(2), "c": {"d"}}, n) for n in (2, 4, 5)]
    for new in (True, False):
        buffer = io.BytesIO()
        torch.save({"a": torch.arange(6.0).view(2, 3), "n": 1}, buffer, _use_new_zipfile_serialization=new)
        files.append(buffer.getvalue())
    files.append(snapshot(record(module_state(x=tensor(nested(files[-1]))))))
    files += [snapshot(record(module_state(x=payload()))), torch_zip(payload())]
    return files


def attempt(path):
    """Whether the file loads; otherwise it is refused in one line."""
    try:
        checkpoint = read_checkpoint(path)
        with contextlib.suppress(SkiptuneError):
            loaded = network_record(checkpoint)
            [value.sum() for value in loaded.state_dict().values()]
            str(loaded.kwargs)
    except SkiptuneError as error:
        assert len(str(error).splitlines()) == 1 and str(error).isprintable()
        return False
    return True


class TooLong(BaseException):
    """No reader takes it for a damaged file."""


@contextlib.contextmanager
def deadline(seconds):
    """Break off a file that takes long."""

    def late(*_):
        raise TooLong(f"still reading after {seconds} s of computing")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def test_mutated_files(seeds, tmp_path, monkeypatch):
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.chdir(scratch)
    path = tmp_path / "mutated.pkl"
    path.write_bytes(seeds[0])
    attempt(path)  # whatever torch imports on first use
    outcomes, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=FILES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(dice=st.randoms(use_true_random=False))
    def damaged_files_load_or_are_refused(dice):
        path.write_bytes(mutate(dice.choice(seeds), seeds, dice))
        with watched() as events, deadline(SECONDS):
            outcomes.append(attempt(path))
        assert events == [] and not any(scratch.iterdir())

    damaged_files_load_or_are_refused()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert len(outcomes) >= FILES
    assert 0 < sum(outcomes) < len(outcomes) / 2  # the mutations neither break everything nor nothing
