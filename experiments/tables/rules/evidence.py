"""What a rule decides from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.tables.config import ClaimConfig, TableConfig
from experiments.tables.results import ClaimResult
from skiptune.evaluation.intervals import Interval


@dataclass(frozen=True)
class Evidence:
    """What was measured on the report seeds: row id -> metric -> one value per seed block.

    `selected`: row id -> what was chosen for it on the selection seeds. `interventions`: row id -> the
    settings that its images were sampled with, learned coefficients and what its run chose among them.
    `unit`: what there is one value of, seed blocks or prompts.
    """

    config: TableConfig
    scale: str
    blocks: Mapping[str, Mapping[str, Sequence[float]]]
    selected: Mapping[str, float] = field(default_factory=dict)
    interventions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unit: str = "seed blocks"

    def series(self, row: str, metric: str) -> Sequence[float]:
        """The block values of a row, empty if it was not measured."""
        return self.blocks.get(row, {}).get(metric, ())


Rule = Callable[[ClaimConfig, Evidence], ClaimResult]


def undecided(claim: ClaimConfig, verdict: str, why: str) -> ClaimResult:
    """A verdict without a number: ``not run`` or ``inconclusive``."""
    return ClaimResult(claim.id, verdict, None, None, None, why)


def corrected(tests: int) -> float:
    """Confidence of each of several intervals, one of which suffices to contradict (Bonferroni)."""
    return 1 - 0.05 / tests


def widened(interval: Interval, tests: int, opposed: bool) -> str:
    """What decides, to follow a 95% interval opposed to the claim: the one of `corrected` confidence."""
    if not opposed or tests == 1:
        return ""
    return f" (widened for {tests} tests to {corrected(tests):.2%}: {span(interval)})"


def span(interval: Interval) -> str:
    """A value with its interval, "0.533 [0.510, 0.557]"."""
    digits = 3 if abs(interval.value) >= 0.1 else 2 - math.floor(math.log10(abs(interval.value) or 1))
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
