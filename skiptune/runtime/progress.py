"""Progress of a long run: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import NoReturn, TextIO

from tqdm import tqdm


class Progress:
    """`with Progress(total, label=...) as progress: progress.advance(n)`, written to stderr.

    `initial` counts work found in the store: it is part of the total but not of the rate. Where the stream is
    not a terminal, at most one line every `every` seconds and one at the end:
    `label: 1200/4000 img, 212.3 img/s, ETA 0:13`. `silent` writes nothing (ranks other than 0).
    """

    def __init__(
        self,
        total: int,
        unit: str = "img",
        label: str = "progress",
        *,
        initial: int = 0,
        every: float = 10.0,
        silent: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.total, self.unit, self.label, self.initial = total, unit, label, initial
        self.done = initial
        self._every, self._silent = every, silent
        self._stream = sys.stderr if stream is None else stream
        self._bar: tqdm[NoReturn] | None = None
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Progress:
        self._started = self._printed = time.monotonic()
        if not self._silent and self._stream.isatty():
            self._bar = tqdm(
                total=self.total,
                initial=self.initial,
                desc=self.label,
                unit=f" {self.unit}",
                file=self._stream,
                dynamic_ncols=True,
            )
        return self

    def advance(self, n: int = 1) -> None:
        """`n` more units are computed."""
        self.reach(self.done + n)

    def reach(self, done: int) -> None:
        """`done` units are there, of whoever computed them."""
        n, self.done = done - self.done, done
        if self._bar is not None:
            self._bar.update(n)
        elif not self._silent and self.done < self.total and time.monotonic() - self._printed >= self._every:
            left = _clock((self.total - self.done) / self.rate) if self.rate else "unknown"
            self._print(f"ETA {left}")

    @property
    def rate(self) -> float:
        """Computed units a second so far, 0 before the first."""
        return (self.done - self.initial) / max(time.monotonic() - self._started, 1e-9)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif not self._silent:
            word = "took" if self.done >= self.total else "stopped after"
            self._print(f"{word} {_clock(time.monotonic() - self._started)}")

    def _print(self, end: str) -> None:
        self._printed = time.monotonic()
        speed = f"{self.rate:.1f} {self.unit}/s, " if self.done > self.initial else ""
        line = f"{self.label}: {self.done}/{self.total} {self.unit}, {speed}{end}"
        print(line, file=self._stream, flush=True)


def _clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
