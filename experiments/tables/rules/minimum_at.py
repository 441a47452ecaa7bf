"""Claims that one curve turns up behind a lowest point in a given place, where others only fall."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.along import along, unmeasured
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import paired_ratio_interval


def minimum_at(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is a curve lowest at one of some values of a setting, and far above that at the last value?

    Parameters: ``metric``; ``x``, the setting; ``arm`` of the curve; ``at``, where the lowest point may be;
    ``excess``, the least ratio of the last value to the lowest; ``falling``, arms whose curves do not rise by
    more than ``margin`` from one value to the next. From paired 95% t intervals over seed blocks: supported
    if the lowest mean is in ``at``, the ratio's lower end above ``excess`` and every rise's upper end below
    1 + margin; contradicted if the ratio's upper end is below ``excess`` or, in intervals widened for their
    number (Bonferroni), another value lies below all of ``at``, or the lower end of some rise above 1. The
    effect is the ratio.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, x, arm = spec.take("metric", str), spec.take("x", str), spec.take("arm", str)
    at, excess = spec.take("at", Sequence), spec.number("excess")
    falling, margin = spec.take("falling", Sequence), spec.number("margin")
    spec.finish()
    curve = along(claim, evidence, arm, x)
    others = [along(claim, evidence, name, x) for name in falling]
    rows = [row for curve_rows in (curve, *others) for row in curve_rows.values()]
    if (missing := unmeasured(claim, evidence, rows, metric)) is not None:
        return missing
    if not set(at) & set(curve):
        raise SkiptuneError(f"claim {claim.id}: no row of '{arm}' is at {x} {' or '.join(map(str, at))}")
    means = {value: float(np.mean(evidence.series(row.id, metric))) for value, row in curve.items()}
    lowest, last = min(means, key=lambda value: means[value]), list(curve)[-1]
    near = min((value for value in curve if value in at), key=lambda value: means[value])
    ratio = paired_ratio_interval(
        evidence.series(curve[last].id, metric), evidence.series(curve[near].id, metric)
    )
    steps = [pair for rows in others for pair in pairwise(rows.values())]
    rises = [(evidence.series(b.id, metric), evidence.series(a.id, metric)) for a, b in steps]
    fall = all(paired_ratio_interval(*values).high < 1 + margin for values in rises)
    rise = sum(paired_ratio_interval(*values, corrected(len(rises))).low > 1 for values in rises)
    elsewhere = any(
        paired_ratio_interval(
            evidence.series(curve[value].id, metric),
            evidence.series(curve[near].id, metric),
            corrected(len(curve)),
        ).high
        < 1
        for value in curve
        if value not in at
    )
    supported = lowest in at and ratio.low > excess and fall
    verdict = "supported" if supported else "inconclusive"
    if ratio.high < excess or rise or elsewhere:
        verdict = "contradicted"
    text = (
        f"Lowest {metric} at {x} {lowest:g} (claimed at {' or '.join(f'{value:g}' for value in at)}); at "
        f"{last:g} over that at {near:g}: {span(ratio)} (claimed above {excess:g}). Of the other curves' "
        f"{len(steps)} neighbours {rise} rise beyond the noise."
        f"{effect_of(f'{evidence.title(metric)} at {x} {last:g} over that at {near:g}')}"
    )
    return ClaimResult(claim.id, verdict, ratio.value, ratio.low, ratio.high, text)
