"""Paired timing: alternate the contestants, so that a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Timings:
    """Seconds of every repeat and the last outcome, by contestant; ``images`` is the work of one repeat."""

    seconds: Mapping[str, list[float]]
    images: int
    outcomes: Mapping[str, Any] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """Images per second, median over the repeats."""
        return self.images / statistics.median(self.seconds[name])

    def ratio(self, name: str, against: str) -> dict[str, float]:
        """How many times as fast as ``against``: median, lowest and highest of the paired repeats."""
        paired = [b / a for a, b in zip(self.seconds[name], self.seconds[against], strict=True)]
        return {"median": statistics.median(paired), "low": min(paired), "high": max(paired)}


def alternate(
    contestants: Mapping[str, Callable[[], object]], images: int, repeats: int, warm_up: bool = True
) -> Timings:
    """Time every contestant once per repeat, in turn, after one unmeasured round unless told not to."""
    if warm_up:
        for run in contestants.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    outcomes: dict[str, object] = {}
    for _ in range(repeats):
        for name, run in contestants.items():
            started = time.perf_counter()
            outcomes[name] = run()
            seconds[name].append(time.perf_counter() - started)
    return Timings(seconds, images, outcomes)


def made_on(provenance: Mapping[str, Any], manner: str = "") -> str:
    """Where a report's numbers come from, for its head: device (and in what manner), torch, commit."""
    torch = provenance["packages"].get("torch")
    return f"Device: {provenance['device']}{manner}; torch {torch}; commit {provenance['commit'][:12]}"
