"""Loads and reports one file after the other, in a process with a limit of memory and of time for each.

``python building_probe.py FOLDER KIND:CASE:HOW_MANY ...`` prints a line of JSON for every file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
from pathlib import Path

from mutations import damaged, misdescribed, misshapen
from official_files import write
from watching import watched

from scripts.inspect import main as inspect
from skiptune.checkpoints.building.load import load_checkpoint
from skiptune.checkpoints.building.report import report
from skiptune.errors import SkiptuneError

MEMORY = 2 << 30  # bytes, without those of the mapped file
SECONDS = 20  # of computing, for one file: a network of the allowed 5,000 tensors takes 1 to 5
EVERY = 50  # one of so many files is also given to the whole command


FILES = {"damaged": damaged, "misdescribed": misdescribed, "misshapen": misshapen}


def attempt(path: Path, command: bool) -> str:
    """The line of the refusal, or nothing."""
    try:
        lines = report(load_checkpoint(path))
        if command:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                inspect([str(path)])
            lines += out.getvalue().splitlines()
    except SkiptuneError as error:
        return str(error)
    assert all(line.isprintable() for line in lines), lines
    return ""


def main(folder: str, *jobs: str) -> None:
    for name in ("warm", "scratch"):
        Path(folder, name).mkdir()
    scratch = Path(folder, "scratch")
    os.chdir(scratch)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    for job in jobs:
        kind, case, many = job.split(":")
        attempt(write(case, Path(folder, "warm"))[0], True)  # whatever is imported on first use
        path = Path(folder, "network.ckpt")
        for number in FILES[kind](case, int(many), path):
            print(json.dumps({"job": job, "number": number}), end=" ", flush=True)  # should it be the last
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
            with watched() as events:
                line = attempt(path, number % EVERY == 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            left = [*events, *map(str, scratch.iterdir())]
            print(json.dumps({"line": line, "left": left}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
