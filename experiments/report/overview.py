"""The overview: every claim of every paper with its verdicts, and the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.report.entries import Entry, Finding, findings
from experiments.tables.config import PAPERS
from experiments.tables.contract import VERDICTS
from experiments.tables.results import ClaimResult

MARKS = {"supported": "✓", "contradicted": "✕", "inconclusive": "≈", "not run": "·"}
WORDS = {"not run": "not measured yet"}


@dataclass(frozen=True)
class Chapter:
    """One paper at one scale."""

    paper: str
    scale: str
    entries: tuple[Entry, ...]

    @property
    def anchor(self) -> str:
        return f"{self.scale}-{self.paper}"

    @property
    def title(self) -> str:
        """The paper's title, without the place where it appeared."""
        return PAPERS[self.paper].partition(" (")[0]

    @property
    def place(self) -> str:
        return PAPERS[self.paper].partition(" (")[2].removesuffix(")")

    @property
    def claims(self) -> dict[tuple[str, str], list[Finding]]:
        return findings(self.entries)

    @property
    def tally(self) -> list[tuple[str, int]]:
        """How often each verdict fell, in fixed order; those that did not are left out."""
        counts = Counter(finding.verdict for some in self.claims.values() for finding in some)
        return [(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]]


def chapters(some: Sequence[Entry]) -> list[Chapter]:
    """The papers in their order, at a scale only if something was measured at it or it is the first."""
    found = list[Chapter]()
    for scale in dict.fromkeys(entry.scale for entry in some):
        own = [entry for entry in some if entry.scale == scale]
        if not found or any(entry.result is not None for entry in own):
            papers = dict.fromkeys(entry.config.paper for entry in own)
            found += [Chapter(p, scale, tuple(e for e in own if e.config.paper == p)) for p in papers]
    return found


def effect_text(claim: ClaimResult | None) -> str:
    """The deciding number, such as "0.942"; a dash where there is none."""
    return "–" if claim is None or claim.effect is None else number(claim.effect)


def interval_text(claim: ClaimResult | None) -> str:
    """Its 95% interval, empty where there is none."""
    if claim is None or claim.low is None or claim.high is None:
        return ""
    return f"[{number(claim.low)}, {number(claim.high)}]"


def number(value: float) -> str:
    """Three digits, with a minus sign that is as wide as a digit."""
    return f"{value:.3g}".replace("-", "−")
