"""Claims that few steps of a tuned model beat the untouched model however many steps it takes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, span, undecided
from skiptune.evaluation.intervals import paired_ratio_interval


def below_limit(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is the metric of some row below the untouched model's limit of many steps?

    Parameters: ``metric``; ``limit_arm``, rows of the untouched model with ever more ``steps``; ``change``,
    below which one more doubling counts as none; ``rows`` by scale. The limit is the first row whose doubling
    moves the metric by less than ``change``. Supported if the paired ratio of some row to the limit has an
    upper end below 1, in t intervals widened for the number of rows (Bonferroni); contradicted if every lower
    end is above 1. Where no doubling settles, the last row stands for the limit and nothing can be supported.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, arm, change = spec.take("metric", str), spec.take("limit_arm", str), spec.number("change")
    by_scale = spec.take("rows", Mapping)
    spec.finish()
    rows = [evidence.config.row(id) for id in by_scale.get(evidence.scale, ())]
    untouched = [row for row in evidence.config.rows_at(evidence.scale) if row.arm == arm]
    untouched.sort(key=lambda row: int(row.sampler["steps"]))
    wanted = [row.id for row in (*rows, *untouched)]
    if not rows or len(untouched) < 2 or any(not evidence.series(id, metric) for id in wanted):
        return undecided(
            claim, "not run", f"The rows of this claim are not measured at scale {evidence.scale}."
        )
    means = {row.id: float(np.mean(evidence.series(row.id, metric))) for row in untouched}
    settled = (a for a, b in pairwise(untouched) if abs(means[b.id] / means[a.id] - 1) < change)
    limit = next(settled, None)
    reached = limit is not None
    limit = limit or untouched[-1]
    base = evidence.series(limit.id, metric)
    if len(base) == 1:
        return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
    wide = corrected(len(rows))
    ratios = [(row, paired_ratio_interval(evidence.series(row.id, metric), base, wide)) for row in rows]
    best, ratio = min(ratios, key=lambda pair: pair[1].high)
    verdict = "supported" if reached and ratio.high < 1 else "inconclusive"
    if all(r.low > 1 for _, r in ratios):
        verdict = "contradicted"
    steps = limit.sampler["steps"]
    how = "reached at" if reached else "not reached; the largest number measured is"
    course = ", ".join(f"{row.sampler['steps']} steps: {means[row.id]:.4g}" for row in untouched)
    text = (
        f"Limit of the untouched model (doubling the steps moves {metric} by less than {change:.0%}) {how} "
        f"{steps} steps ({course}). Ratio to it, geometric mean over paired seed blocks with "
        f"{wide:.1%} t interval: "
        + "; ".join(f"{row.label}: {span(r)}" for row, r in ratios)
        + f". Best: {best.label}."
    )
    return ClaimResult(claim.id, verdict, ratio.value, ratio.low, ratio.high, text)
