"""One job: a command line that may be stopped at any time and started again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skiptune.runtime.jobs.launch import filled_in
from skiptune.runtime.stopping import STOPPED

ERROR = "error: "
# Of a torchrun that was told to stop, or whose processes were; its code is 1.
TORCHRUN_STOPPED = re.compile(rf"SignalException: Process |exitcode\s*: {STOPPED} ")
AFTER_TERM = 120.0  # seconds within which SLURM ends a job that it told to stop (KillWait)
_LIBC = ctypes.CDLL(None)  # loaded here, because it cannot be after a fork
PATIENCE = 60.0  # seconds for the chunk at hand, where no time limit says how many there are
DROPPING = 15.0  # seconds for dropping it, then


@dataclass(frozen=True)
class Outcome:
    """How a job ended: exit code, what it printed, and one line on what went wrong if it did."""

    name: str
    code: int
    out: str = ""
    error: str = ""


class Command:
    """``argv``, run in ``folder``; called, it returns its ``Outcome``. What it says on stderr is passed on.

    ``checkpoint`` is called by submitit, in a signal handler, before the job is put back into the queue.
    """

    def __init__(self, name: str, argv: list[str], folder: str, patience: float = PATIENCE) -> None:
        self.name, self.argv, self.folder, self.patience = name, argv, folder, patience
        self._child: subprocess.Popen[str] | None = None
        self._stopped = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_child": None}

    def __call__(self, environment: Mapping[str, str] | None = None) -> Outcome:
        """Run it, with these variables beside those of this process."""
        errors: list[str] = []
        self._child = child = subprocess.Popen(
            filled_in(self.argv),
            cwd=self.folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
            preexec_fn=_prepare_child,
        )
        if self._stopped:  # while it was being started
            self._signal(signal.SIGTERM)
        assert child.stdout is not None and child.stderr is not None
        stopped: list[str] = []
        reader = threading.Thread(target=_pass_on, args=(child.stderr, errors, stopped), daemon=True)
        reader.start()
        try:
            out = child.stdout.read()
            code = child.wait()
        except BaseException:
            self._signal(signal.SIGTERM)
            raise
        reader.join()
        if stopped and code != 0:
            code = STOPPED
        if code == STOPPED and "SLURM_JOB_ID" in os.environ:
            # SLURM cancels this job or puts it back into its queue: it has no outcome yet, and ends soon.
            time.sleep(AFTER_TERM)
        return Outcome(self.name, code, out, "" if code == 0 else _reason(code, errors))

    def checkpoint(self) -> Any:
        """Waits for the chunk at hand, drops it if that takes too long; this command goes on later."""
        from submitit.helpers import DelayedSubmission

        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # once is enough
        told = time.monotonic()
        end = told + self.patience + DROPPING
        while self._child is not None and self._child.poll() is None and time.monotonic() < end:
            # Again and again: while it imports, it does not listen yet.
            late = time.monotonic() > told + self.patience
            self._signal(signal.SIGTERM if late else signal.SIGUSR2)
            time.sleep(0.5)
        self._signal(signal.SIGKILL)
        return DelayedSubmission(self)

    def stop(self) -> None:
        """Drop the chunk at hand and stop."""
        self._stopped = True
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is None or self._child.poll() is not None:
            return
        if number != signal.SIGUSR2:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)
            return
        # torchrun has its processes in groups of their own; compilers and the like would die of it.
        for process in (self._child.pid, *descendants(self._child.pid)):
            with contextlib.suppress(ProcessLookupError):
                if listens(process, number):
                    os.kill(process, number)


def listens(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal, as far as /proc tells."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def descendants(process: int) -> list[int]:
    """The processes that it started, those that they started, and so on, where /proc tells."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            children.setdefault(int(parent), []).append(int(entry.name))
    found = list(children.get(process, ()))
    for one in found:
        found += children.get(one, ())
    return found


def _prepare_child() -> None:
    # SLURM tells launchers in between too, such as torchrun, which know nothing of it; we set a handler.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if sys.platform == "linux":
        _LIBC.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: end with the parent


def _pass_on(stream: Any, errors: list[str], stopped: list[str]) -> None:
    for line in stream:
        sys.stderr.write(line)
        sys.stderr.flush()
        if line.startswith(ERROR):
            errors.append(line.removeprefix(ERROR).strip())
        elif TORCHRUN_STOPPED.search(line):
            stopped.append(line)


def _reason(code: int, errors: list[str]) -> str:
    if code == STOPPED:
        return "it was told to stop; the same command goes on"
    if errors:
        return errors[0]
    if code < 0:
        return f"it was killed by {signal.Signals(-code).name}"
    return f"it ended with code {code}; its messages say why"
