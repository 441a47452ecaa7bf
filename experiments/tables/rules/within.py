"""Claims that values, or ratios of two rows, lie between fixed ends."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided, widened
from skiptune.evaluation.intervals import Interval, block_interval, paired_ratio_interval


def within(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Does every named value lie between its ends?

    Parameters: ``tests``, by scale a list of ``{row, metric, low, high, against: a row}``; the value is the
    metric's mean over seed blocks or, with ``against``, its ratio to that row's (geometric mean over paired
    blocks). Supported if every 95% t interval lies inside, the ends included; contradicted if some, widened
    for their number (Bonferroni), lies outside; else inconclusive. The effect is the value that is furthest
    out, in units of the room between its ends.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    by_scale = spec.take("tests", Mapping)
    spec.finish()
    tests = [Section(test, f"claim {claim.id}: tests") for test in by_scale.get(evidence.scale, ())]
    if not tests:
        return undecided(claim, "not run", f"No tests are named at scale {evidence.scale}.")
    confidence = corrected(len(tests))
    found, inside, outside = [], True, False
    beyond: list[tuple[float, Interval, str]] = []
    for test in tests:
        row, metric = evidence.config.row(test.take("row", str)), test.take("metric", str)
        low, high = test.number("low"), test.number("high")
        against = test.optional("against", str, None)
        test.finish()
        ours = evidence.series(row.id, metric)
        theirs = ours if against is None else evidence.series(against, metric)
        if not ours or not theirs:
            return undecided(claim, "not run", f"No values of '{row.id if not ours else against}'.")
        if len(ours) == 1:
            return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
        if against is None:
            what = f"{metric} of {row.label}"
            interval, wide = block_interval(ours), block_interval(ours, confidence)
        else:
            what = f"{metric} of {row.label} over {evidence.config.row(against).label}"
            interval = paired_ratio_interval(ours, theirs)
            wide = paired_ratio_interval(ours, theirs, confidence)
        opposed = interval.low > high or interval.high < low
        inside = inside and low <= interval.low and interval.high <= high
        outside = outside or wide.low > high or wide.high < low
        beyond.append((max(interval.high - high, low - interval.low) / (high - low or 1), interval, what))
        seen = span(interval) + widened(wide, len(tests), opposed)
        found.append(f"{what}: {seen} (claimed {low:g} to {high:g})")
    verdict = "contradicted" if outside else "supported" if inside else "inconclusive"
    _, worst, furthest = max(beyond, key=lambda one: one[0])
    text = f"Mean over seed blocks with 95% t interval: {'; '.join(found)}.{effect_of(furthest)}"
    return ClaimResult(claim.id, verdict, worst.value, worst.low, worst.high, text)
