from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import termios
import time

import pytest

from skiptune.runtime.progress import Progress


def test_plain_lines_at_intervals_and_one_at_the_end():
    stream = io.StringIO()
    with Progress(40, label="edm", initial=10, every=0.1, stream=stream) as progress:
        for _ in range(30):
            time.sleep(0.01)
            progress.advance()
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) <= 8
    for line in lines[:-1]:
        assert re.fullmatch(r"edm: \d+/40 img, \d+\.\d img/s, ETA 0:0\d", line)
    assert re.fullmatch(r"edm: 40/40 img, \d+\.\d img/s, took 0:0\d", lines[-1])


def test_rate_counts_computed_work_only():
    with Progress(1000, initial=990, silent=True) as progress:
        time.sleep(0.05)
        progress.advance(10)
        assert 0 < progress.rate <= 200
    assert progress.done == 1000


def test_cached_and_stopped_runs_end_with_a_line():
    stream = io.StringIO()
    with Progress(8, initial=8, label="cached", stream=stream):
        pass
    with pytest.raises(KeyError), Progress(8, unit="chunks", label="stopped", stream=stream) as progress:
        progress.advance(2)
        raise KeyError
    first, second = stream.getvalue().splitlines()
    assert first == "cached: 8/8 img, took 0:00"
    assert re.fullmatch(r"stopped: 2/8 chunks, \d+\.\d chunks/s, stopped after 0:00", second)


def test_silent_writes_nothing():
    stream = io.StringIO()
    with Progress(2, every=0.0, silent=True, stream=stream) as progress:
        progress.advance(2)
    assert stream.getvalue() == ""


def test_bar_on_a_terminal():
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    with os.fdopen(end, "w") as stream, Progress(20, label="edm", initial=5, stream=stream) as progress:
        progress.advance(15)
    said = b""
    with contextlib.suppress(OSError):  # the end of a terminal that nobody writes to
        while part := os.read(terminal, 4096):
            said += part
    os.close(terminal)
    text = said.decode()
    assert "\r" in text and "edm" in text and "20/20" in text and "img/s" in text


def test_a_slow_start_has_no_eta_yet():
    stream = io.StringIO()
    with Progress(10, every=0.0, stream=stream) as progress:
        progress.advance(0)
    assert stream.getvalue().splitlines()[0] == "progress: 0/10 img, ETA unknown"
