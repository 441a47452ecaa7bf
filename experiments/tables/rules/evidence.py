"""What a rule decides from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.tables.config import ClaimConfig, TableConfig
from experiments.tables.results import EFFECT, ClaimResult
from skiptune.evaluation.intervals import Interval, block_interval, share_interval

SEED_BLOCKS = "seed blocks"


@dataclass(frozen=True)
class Evidence:
    """What was measured on the report seeds: row id -> metric -> one value per seed block.

    `selected`: row id -> what was chosen for it on the selection seeds. `interventions`: row id -> the
    settings that its images were sampled with, learned coefficients and what its run chose among them.
    `units`: row id -> what there is one value of, seed blocks unless named. `floors`: role -> metric -> its
    value between real images and the reference, where it is known.
    """

    config: TableConfig
    scale: str
    blocks: Mapping[str, Mapping[str, Sequence[float]]]
    selected: Mapping[str, float] = field(default_factory=dict)
    interventions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    floors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def series(self, row: str, metric: str) -> Sequence[float]:
        """The block values of a row, empty if it was not measured."""
        return self.blocks.get(row, {}).get(metric, ())

    def unit(self, rows: Iterable[str] = ()) -> str:
        """What there is one value of in these rows, of all unless given."""
        named = (self.units.get(id, SEED_BLOCKS) for id in (rows or self.blocks))
        return " or ".join(dict.fromkeys(named)) or SEED_BLOCKS

    def title(self, metric: str) -> str:
        """Of the metric's column."""
        return next((c.title for c in self.config.columns if c.key == metric), metric)

    def interval(self, values: Sequence[float], metric: str, confidence: float = 0.95) -> Interval:
        """Of the mean: Wilson's for shares, else Student's t."""
        of_kind = share_interval if metric in self.config.shares else block_interval
        return of_kind(values, confidence)


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


def effect_of(what: str) -> str:
    """The end of a test's text: what the effect is, for the index of all tables."""
    return f"{EFFECT}{what}."


def span(interval: Interval) -> str:
    """A value with its interval, "0.533 [0.510, 0.557]"."""
    digits = 3 if abs(interval.value) >= 0.1 else 2 - math.floor(math.log10(abs(interval.value) or 1))
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
