"""Load one checkpoint in this fresh process and report time and memory: a JSON list in, a JSON line out."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from skiptune.checkpoints.building.load import load_checkpoint
from skiptune.checkpoints.building.report import count, find_sites

INTERVAL = 0.002  # seconds between two looks at the memory


def memory() -> dict[str, int]:
    """Bytes of this process: resident, of these anonymous, and the highest resident so far (Linux)."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = {line[0][:-1]: int(line[1]) for line in lines if line[0] in ("VmRSS:", "RssAnon:", "VmHWM:")}
    return {key: 1024 * value for key, value in kilobytes.items()}


class Watch:
    """The most anonymous memory while it is open; the kernel keeps no such mark."""

    def __init__(self) -> None:
        self.highest, self.done = 0, threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self) -> None:
        while not self.done.is_set():
            self.highest = max(self.highest, memory()["RssAnon"])
            self.done.wait(INTERVAL)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join()
        self.highest = max(self.highest, memory()["RssAnon"])


def probe(path: str, description: Mapping[str, object] | None, autoencoder: str | None) -> dict[str, object]:
    """Seconds and bytes of loading, and of then reading every weight once."""
    before = memory()
    started = time.perf_counter()
    with Watch() as watch:
        checkpoint = load_checkpoint(path, description, autoencoder)
    seconds = time.perf_counter() - started
    loaded = memory()
    for value in checkpoint.denoiser.state_dict().values():
        value.sum()
    touched = memory()
    sites = find_sites(checkpoint.denoiser)
    return {
        "seconds": seconds,
        "peak_resident": loaded["VmHWM"] - before["VmRSS"],
        "peak_anonymous": watch.highest - before["RssAnon"],
        "resident_in_use": touched["VmRSS"] - before["VmRSS"],
        "anonymous_in_use": touched["RssAnon"] - before["RssAnon"],
        "parameters": count(checkpoint.denoiser),
        "skips": len(sites),
        "equal_skips": sum(site.matching for site in sites),
    }


if __name__ == "__main__":
    print(json.dumps(probe(*json.loads(sys.stdin.read()))))
