"""Stopping on request: a scheduler says that time is up, what is finished is kept, the next start goes on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

STOPPED = 143  # exit code of a job that stopped because it was told to
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class Stopped(KeyboardInterrupt):
    """Raised in the main thread when this process is to stop; like Ctrl-C, it passes ``except Exception``."""

    at_once = False  # whether it was not between two chunks


class _Wish:
    after_chunk = False
    by = signal.SIGUSR2
    pass_on: Callable[[], None] | None = None


def stop_on_signals() -> None:
    """SIGTERM: drop the current chunk and stop now. SIGUSR2, sent before a time limit: finish it, then stop.

    To be called by the main thread of a program.
    """
    signal.signal(signal.SIGTERM, _now)
    signal.signal(signal.SIGUSR2, _after_chunk)


@contextlib.contextmanager
def finishing_first() -> Iterator[None]:
    """Inside, SIGTERM and Ctrl-C wait for ``check_stop`` too, since what is at hand takes seconds.

    A second one does not wait. Nothing changes in a program that did not call ``stop_on_signals``, and in a
    thread other than the main one, which no signal reaches.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not _now:
        yield
        return
    before = {number: signal.signal(number, _soon) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_after_chunk() -> None:
    """Let this process, and those it works with, begin no further chunk."""
    if not _Wish.after_chunk:
        _Wish.after_chunk = True
        if _Wish.pass_on is not None:
            _Wish.pass_on()


def pass_on(tell: Callable[[], None]) -> None:
    """``tell`` is called when this process is told to stop after its chunk, at once if it has been."""
    _Wish.pass_on = tell
    if _Wish.after_chunk:
        tell()


def check_stop() -> None:
    """Between two chunks. Raises Stopped if this process was told to stop, KeyboardInterrupt for Ctrl-C."""
    if _Wish.after_chunk:
        if _Wish.by == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(_Wish.by.name)


def stop_wanted() -> bool:
    """Whether no further chunk is to be begun."""
    return _Wish.after_chunk


def _now(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the tidying up
    stopped = Stopped("SIGTERM")
    stopped.at_once = True
    raise stopped


def _soon(number: int, frame: FrameType | None) -> None:
    if _Wish.after_chunk:
        (signal.default_int_handler if number == signal.SIGINT else _now)(number, frame)
    _Wish.by = signal.Signals(number)
    stop_after_chunk()


def _after_chunk(number: int, frame: FrameType | None) -> None:
    stop_after_chunk()
