"""Claims that a metric never rises along a setting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from experiments.tables.config import ClaimConfig, RowConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided
from skiptune.evaluation.intervals import Interval, paired_ratio_interval


def never_rises(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Does the metric nowhere rise from one value of a setting to the next, beyond a margin?

    Parameters: ``metric``; ``x``, the setting; ``group``, the setting that tells curves apart; ``arms`` of
    the rows; ``margin``, a rise that counts as none (0.05: 5%). From the paired ratio of neighbours over seed
    blocks, with t intervals widened for their number (Bonferroni): supported if every upper end is below
    1 + margin, contradicted if some lower end is above 1, else inconclusive. The effect is the largest ratio
    with its 95% interval.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, x, group = spec.take("metric", str), spec.take("x", str), spec.take("group", str)
    arms, margin = spec.take("arms", Sequence), spec.number("margin")
    spec.finish()
    curves: dict[object, list[RowConfig]] = {}
    for row in evidence.config.rows_at(evidence.scale):
        if row.arm in arms:
            if not evidence.series(row.id, metric):
                return undecided(claim, "not run", f"No values of '{row.id}'.")
            if len(evidence.series(row.id, metric)) == 1:
                return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
            curves.setdefault(row.settings(evidence.selected.get(row.id))[group], []).append(row)
    ordered = [sorted(rows, key=lambda row: float(row.settings()[x])) for rows in curves.values()]
    steps = [(a, b) for rows in ordered for a, b in pairwise(rows)]
    if not steps:
        return undecided(claim, "not run", f"No rows of {', '.join(arms)} at scale {evidence.scale}.")
    confidence = corrected(len(steps))
    ratios: list[tuple[Interval, Interval, str]] = []
    for a, b in steps:
        values = evidence.series(b.id, metric), evidence.series(a.id, metric)
        wide, plain = paired_ratio_interval(*values, confidence), paired_ratio_interval(*values)
        ratios.append((wide, plain, f"{b.label} over {a.label}"))
    verdict = "supported" if all(ratio.high < 1 + margin for ratio, _, _ in ratios) else "inconclusive"
    if any(ratio.low > 1 for ratio, _, _ in ratios):
        verdict = "contradicted"
    _, largest, where = max(ratios, key=lambda pair: pair[0].value)
    rises = sum(ratio.low > 1 for ratio, _, _ in ratios)
    text = (
        f"{rises} of {len(steps)} neighbours rise beyond the noise ({confidence:.2%} t intervals of the "
        f"paired ratio); one of at most {margin:.0%} counts as none. Largest: {where}, {span(largest)} (95%)."
        f"{effect_of(f'{evidence.title(metric)} of {where}, the largest rise')}"
    )
    return ClaimResult(claim.id, verdict, largest.value, largest.low, largest.high, text)
