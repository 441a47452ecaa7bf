"""Claims that one of several conditions is better than the best of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided
from skiptune.evaluation.intervals import paired_difference_interval


def beats_best(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is some row of one kind above every row of another?

    Parameters: ``metric``, higher is better; ``arms`` of the first kind; ``than``, arms of the other. From
    paired differences, t intervals: supported if some row of ``arms`` lies above every one of ``than``, its
    95% intervals widened for the number of ``arms`` rows (Bonferroni; that a row has to pass all of its tests
    takes no correction); contradicted if every row of ``arms`` lies below some of ``than``, in intervals
    widened for the number of ``than``; else inconclusive. The effect is the row of highest mean less that of
    the others.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, arms, than = spec.take("metric", str), spec.take("arms", Sequence), spec.take("than", Sequence)
    spec.finish()
    rows = evidence.config.rows_at(evidence.scale)
    own, others = [row for row in rows if row.arm in arms], [row for row in rows if row.arm in than]
    if not own or not others:
        return undecided(claim, "not run", f"No rows of {', '.join(arms)} and {', '.join(than)}.")
    series = {row.id: evidence.series(row.id, metric) for row in (*own, *others)}
    if not all(series.values()):
        return undecided(claim, "not run", "Not all rows were measured.")
    if any(len(values) == 1 for values in series.values()):
        return undecided(claim, "inconclusive", "One value has no spread to test against.")

    def above(a: str, b: str, confidence: float) -> bool:
        return paired_difference_interval(series[a], series[b], confidence).low > 0

    sure, doubtful = corrected(len(own)), corrected(len(others))
    best = any(all(above(row.id, other.id, sure) for other in others) for row in own)
    beaten = all(any(above(other.id, row.id, doubtful) for other in others) for row in own)
    verdict = "supported" if best else "contradicted" if beaten else "inconclusive"
    first, second = (max(some, key=lambda row: float(np.mean(series[row.id]))) for some in (own, others))
    difference = paired_difference_interval(series[first.id], series[second.id])
    name = f"{evidence.title(metric)} of {first.label} less {second.label}"
    text = (
        f"Best of {len(own)} of {', '.join(arms)} against the best of {len(others)} of {', '.join(than)}, "
        f"paired, mean over {evidence.unit(series)} with 95% t interval: {name} {span(difference)} (claimed "
        f"above 0, of one of them against all others, in intervals of {sure:.2%}; the opposite takes those "
        f"of {doubtful:.2%}; the interval shown is not widened for choosing these two).{effect_of(name)}"
    )
    return ClaimResult(claim.id, verdict, difference.value, difference.low, difference.high, text)
