"""Claims that two variants do equally well, measured by the gain of one of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import block_interval, ratio_of_means_interval


def share_of_gain(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is the difference between two rows a small share of the gain of one of them over the baseline?

    Parameters: ``metric``; ``rows``, by scale the row and the one whose gain over its own baseline is the
    yardstick; ``margin``, the largest share m. With d the difference of the two and g the gain, block by
    block: supported if the 95% t intervals of d - m g and of -d - m g lie below 0, which takes the gain as
    measured and not as known; contradicted if one of them, widened (Bonferroni), lies above 0; else
    inconclusive, as where the gain itself is not certain. The effect is mean(d) / mean(g) with its interval.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, margin = spec.take("metric", str), spec.number("margin")
    named = spec.take("rows", Mapping).get(evidence.scale)
    spec.finish()
    if named is None:
        return undecided(claim, "not run", f"No rows are named at scale {evidence.scale}.")
    row, full = (evidence.config.row(id) for id in named)
    if full.baseline is None:
        raise SkiptuneError(f"claim {claim.id}: row '{full.id}' names no baseline; give it one")
    series = [np.array(evidence.series(id, metric)) for id in (row.id, full.id, full.baseline)]
    if any(len(values) == 0 for values in series):
        return undecided(claim, "not run", "Some of the rows were not measured.")
    if len(series[0]) == 1:
        return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
    own, whole, base = series
    gain, difference = base - whole, own - whole
    certain = block_interval(list(gain))
    apart = span(block_interval(list(difference)))
    if certain.low <= 0:
        said = "loses against" if certain.high < 0 else "does not certainly gain over"
        why = (
            f"{full.label} {said} its baseline, by {span(certain)} in {metric}, so there is no gain to "
            f"share. {row.label} minus {full.label}: {apart}."
        )
        return undecided(claim, "inconclusive", why)
    sides = [list(difference - margin * gain), list(-difference - margin * gain)]
    inside = all(block_interval(side).high < 0 for side in sides)
    outside = any(block_interval(side, corrected(2)).low > 0 for side in sides)
    verdict = "supported" if inside else "contradicted" if outside else "inconclusive"
    share = ratio_of_means_interval(list(difference), list(gain))
    text = (
        f"{metric} of {row.label} minus {full.label}: {apart}, of a gain of "
        f"{span(certain)} (95% t intervals over paired seed blocks), a share of {span(share)}; "
        f"at most {margin:g} either way is called equal."
        f"{effect_of(f'{row.label} minus {full.label}, as a share of the gain of the latter')}"
    )
    return ClaimResult(claim.id, verdict, share.value, share.low, share.high, text)
