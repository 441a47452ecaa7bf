"""Claims that two variants do equally well, measured by the gain of one of them."""

from __future__ import annotations

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, undecided
from skiptune.evaluation.intervals import Interval, block_interval


def share_of_gain(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is the difference between two rows a small share of the gain of one of them over the baseline?

    Parameters: ``metric``; ``row``; ``full``, the row whose gain over its own baseline is the yardstick;
    ``margin``, the largest share. The share (metric(row) - metric(full)) / (mean gain of full) has a 95% t
    interval over paired seed blocks. Supported if the interval lies within +-margin, contradicted if it lies
    outside, else inconclusive.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, margin = spec.take("metric", str), spec.number("margin")
    row, full = (evidence.config.row(spec.take(key, str)) for key in ("row", "full"))
    spec.finish()
    assert full.baseline is not None
    series = [np.array(evidence.series(id, metric)) for id in (row.id, full.id, full.baseline)]
    if any(len(values) == 0 for values in series):
        return undecided(claim, "not run", "Some of the rows were not measured.")
    if len(series[0]) == 1:
        return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
    own, whole, base = series
    gain = float(np.mean(base - whole))
    if gain <= 0:
        return undecided(claim, "inconclusive", f"{full.label} gains nothing over its baseline ({gain:.3g}).")
    share: Interval = block_interval(list((own - whole) / gain))
    inside, outside = (
        max(abs(share.low), abs(share.high)) <= margin,
        share.low > margin or share.high < -margin,
    )
    verdict = "supported" if inside else "contradicted" if outside else "inconclusive"
    text = (
        f"{metric} of {row.label} minus {full.label}, as a share of the gain {gain:.3g} of the latter: "
        f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}], 95% t interval over paired seed blocks; "
        f"at most {margin:g} either way is called equal."
    )
    return ClaimResult(claim.id, verdict, share.value, share.low, share.high, text)
