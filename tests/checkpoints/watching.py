"""Whether anything was run, imported, started or opened for writing while a file was read."""

import contextlib
import os
import resource
import sys
import time

import pytest

from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.errors import SkiptuneError

RUNS = ("exec", "compile", "import", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile")
RUNS += (
    "subprocess.Popen",
    "pickle.find_class",
    "marshal.loads",
    "socket.connect",
    "webbrowser.open",
    "code.__new__",
)
_seen = None
_hooked = False


def _hook(event, arguments):
    if _seen is None:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if event in RUNS or event.startswith("ctypes.") or writes:
        _seen.append((event, str(arguments)[:200]))


@contextlib.contextmanager
def watched():
    """The list of forbidden events (Python's audit events) inside of the block."""
    global _seen, _hooked
    if not _hooked:
        sys.addaudithook(_hook)  # can never be removed, so there is one
        _hooked = True
    _seen = events = []
    try:
        yield events
    finally:
        _seen = None


def refusal(content, folder):
    """The line with which a file of these bytes is refused, once nothing has happened in an empty folder."""
    path, scratch = folder / "hostile.pkl", folder / "scratch"
    path.write_bytes(content)
    scratch.mkdir()
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with contextlib.chdir(scratch), watched() as events, pytest.raises(SkiptuneError) as caught:
        read_checkpoint(path)
    seconds = time.monotonic() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    line = str(caught.value)
    assert events == [] and list(scratch.iterdir()) == []
    assert len(line.splitlines()) == 1 and line.isprintable() and len(line) < 500
    assert line.startswith(str(path))
    assert seconds < 20 and grown < 400_000, (seconds, grown)  # KiB
    return line
