"""Stopping on request: a scheduler says that time is up, what is finished is kept, the next start goes on."""

from __future__ import annotations

import signal
from types import FrameType

STOPPED = 143  # exit code of a job that stopped because it was told to


class Stopped(KeyboardInterrupt):
    """Raised in the main thread when this process is to stop; like Ctrl-C, it passes ``except Exception``."""


class _Wish:
    after_chunk = False


def stop_on_signals() -> None:
    """SIGTERM: drop the current chunk and stop now. SIGUSR2, sent before a time limit: finish it, then stop.

    To be called by the main thread of a program.
    """
    signal.signal(signal.SIGTERM, _now)
    signal.signal(signal.SIGUSR2, _after_chunk)


def check_stop() -> None:
    """Between two chunks. Raises Stopped if this process was told to stop."""
    if _Wish.after_chunk:
        raise Stopped("SIGUSR2")


def stop_wanted() -> bool:
    """Whether no further chunk is to be begun."""
    return _Wish.after_chunk


def _now(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the tidying up
    raise Stopped("SIGTERM")


def _after_chunk(number: int, frame: FrameType | None) -> None:
    _Wish.after_chunk = True
