"""Claims that quantities lie below a fixed bound, or below one another."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided, widened
from skiptune.evaluation.intervals import block_interval, paired_difference_interval


def below_bound(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is every metric of a row below a bound?

    Parameters: ``row``, ``metrics``, ``bound``, and ``smaller``, pairs of metrics of which the first is the
    smaller. From the 95% t intervals over seed blocks: supported if every upper end is below the bound and
    every paired difference below 0; contradicted if some lower end is above, in intervals widened for their
    number (Bonferroni); else inconclusive. The effect is the largest of the metrics.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    row, bound = evidence.config.row(spec.take("row", str)), spec.number("bound")
    metrics, pairs = spec.take("metrics", Sequence), spec.optional("smaller", Sequence, ())
    spec.finish()
    named = dict.fromkeys([*metrics, *(metric for pair in pairs for metric in pair)])
    series = {metric: evidence.series(row.id, metric) for metric in named}
    if not all(series.values()):
        return undecided(claim, "not run", f"'{row.id}' was not measured.")
    if any(len(values) == 1 for values in series.values()):
        return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
    tests = len(metrics) + len(pairs)
    confidence = corrected(tests)
    intervals = {metric: block_interval(series[metric]) for metric in metrics}
    wide = {metric: block_interval(series[metric], confidence) for metric in metrics}
    above = any(interval.low > bound for interval in wide.values())
    below = all(interval.high < bound for interval in intervals.values())
    text = "; ".join(
        f"{metric}: {span(interval)}{widened(wide[metric], tests, interval.low > bound)}"
        for metric, interval in intervals.items()
    )
    text = f"Below {bound:g}, mean over seed blocks with 95% t interval: {text}."
    for a, b in pairs:
        difference = paired_difference_interval(series[a], series[b])
        deciding = paired_difference_interval(series[a], series[b], confidence)
        above = above or deciding.low > 0
        below = below and difference.high < 0
        seen = span(difference) + widened(deciding, tests, difference.low > 0)
        text += f" {a} minus {b}: {seen} (claimed below 0)."
    verdict = "contradicted" if above else "supported" if below else "inconclusive"
    name, largest = max(intervals.items(), key=lambda pair: pair[1].value)
    text += effect_of(f"{evidence.title(name)} of {row.label}, the largest")
    return ClaimResult(claim.id, verdict, largest.value, largest.low, largest.high, text)
