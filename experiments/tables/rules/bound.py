"""Claims that quantities lie below a fixed bound."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, span, undecided
from skiptune.evaluation.intervals import block_interval


def below_bound(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is every metric of a row below a bound?

    Parameters: ``row``, ``metrics``, ``bound``. From the 95% t interval over seed blocks: supported if every
    upper end is below the bound, contradicted if some lower end is above it, else inconclusive. The effect is
    the largest of the metrics.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    row, bound = evidence.config.row(spec.take("row", str)), spec.number("bound")
    metrics = spec.take("metrics", Sequence)
    spec.finish()
    series = {metric: evidence.series(row.id, metric) for metric in metrics}
    if not all(series.values()):
        return undecided(claim, "not run", f"'{row.id}' was not measured.")
    if any(len(values) == 1 for values in series.values()):
        return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
    intervals = {metric: block_interval(values) for metric, values in series.items()}
    above = any(interval.low > bound for interval in intervals.values())
    below = all(interval.high < bound for interval in intervals.values())
    verdict = "contradicted" if above else "supported" if below else "inconclusive"
    largest = max(intervals.values(), key=lambda interval: interval.value)
    found = "; ".join(f"{metric}: {span(interval)}" for metric, interval in intervals.items())
    text = f"Below {bound:g}, mean over seed blocks with 95% t interval: {found}."
    return ClaimResult(claim.id, verdict, largest.value, largest.low, largest.high, text)
