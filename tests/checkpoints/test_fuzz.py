"""Ten thousand damaged files: each loads or is refused in one line, at once, and nothing is ever run.

The mutations are seeded, so a failure can be repeated from its number.
"""

import contextlib
import io
import pickle
import random
import resource
import signal
import time

import numpy as np
import pytest
import torch
from hostile import (
    MARKER,
    call,
    data,
    module_state,
    name,
    nested,
    payload,
    record,
    snapshot,
    tensor,
    text,
    torch_tar,
    torch_zip,
    whole,
)
from torch import nn
from watching import watched

from experiments.benchmarks.official_layout import write_edm, write_edm2
from skiptune.checkpoints.reading.persistence import network_record
from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.errors import SkiptuneError

FILES = 10_000
SLOWEST = 2.0  # seconds a file
FRAGMENTS = [
    payload(),
    name("posix.system"),
    call("builtins.eval", text(f"open({MARKER!r}, 'w')")),
    text(f"touch {MARKER}"),
    nested(whole(payload())),
    data(bytes(40)),
    *(b"\x93R.", b"\x85R", b"h\x04", b"\xff" * 8, bytes(8)),
    *(bytes([opcode]) for opcode in b"(t012bQ\x81\x94"),
]


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


def mutate(content, others, dice):
    """One to four flips, cuts, insertions, repetitions, splices or overwritten numbers."""
    content = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        at, length = dice.randrange(len(content) + 1), dice.randint(1, 40)
        kind = dice.randrange(8)
        if kind == 0 and content:
            content[at % len(content)] ^= 1 << dice.randrange(8)
        elif kind == 1:
            content[at : at + 1] = bytes([dice.randrange(256)])
        elif kind == 2:
            del content[at : at + length]
        elif kind == 3:
            content[at:at] = content[at : at + length] * dice.randint(1, 20)
        elif kind == 4:
            content[at:at] = dice.choice(FRAGMENTS)
        elif kind == 5:
            fragment = dice.choice(FRAGMENTS)
            content[at : at + len(fragment)] = fragment
        elif kind == 6:
            other = dice.choice(others)
            start = dice.randrange(len(other))
            content[at : at + length] = other[start : start + dice.randint(1, 400)]
        elif kind == 7 and dice.random() < 0.3:
            del content[at:]
    return bytes(content)


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


@contextlib.contextmanager
def deadline(seconds):
    """Break off a file that hangs."""

    def late(*_):
        raise TimeoutError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_mutated_files(seeds, tmp_path, monkeypatch):
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.chdir(scratch)
    (tmp_path / "seed").write_bytes(seeds[0])
    attempt(tmp_path / "seed")  # whatever torch imports on first use
    loaded, slowest, before = 0, 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(FILES):
        dice = random.Random(number)
        path = tmp_path / f"{number}.pkl"
        path.write_bytes(mutate(dice.choice(seeds), seeds, dice))
        start = time.process_time()
        with watched() as events, deadline(10 * SLOWEST):
            loaded += attempt(path)
        slowest = max(slowest, time.process_time() - start)
        assert events == [] and not any(scratch.iterdir()), number
        path.unlink()
    assert slowest < SLOWEST
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert 0 < loaded < FILES / 2  # the mutations neither break everything nor nothing
