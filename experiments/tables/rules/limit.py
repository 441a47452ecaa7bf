"""Claims that few steps of a tuned model beat the untouched model however many steps it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.along import baselines
from experiments.tables.rules.evidence import Evidence, corrected, span, undecided
from skiptune.evaluation.intervals import paired_ratio_interval


def below_limit(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is the metric of some row below the untouched model's limit of many steps?

    Parameters: ``metric``; ``untouched``, rows of the untouched model, each of twice the steps of the one
    before; ``change``, below which one more doubling counts as none; ``rows`` by scale. The limit is the
    first of the untouched rows whose doubling moves the metric by less than ``change``. A row is compared
    with it and with its own baseline, the untouched model in as few steps, for where that is below the limit
    already the tuning is not what passes it. Supported if both paired ratios of some row have upper ends
    below 1, in t intervals widened for the number of rows (Bonferroni); contradicted if of every row some
    lower end is above 1. Where no doubling settles, the last row stands for the limit and nothing can be
    supported. The effect is the larger ratio of the best row.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, change = spec.take("metric", str), spec.number("change")
    untouched = [evidence.config.row(id) for id in spec.take("untouched", Sequence)]
    by_scale = spec.take("rows", Mapping)
    spec.finish()
    rows = [evidence.config.row(id) for id in by_scale.get(evidence.scale, ())]
    few = baselines(claim, evidence, rows)
    wanted = [row.id for row in (*rows, *few, *untouched)]
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
    wide = corrected(max(len(rows), 2))  # two ratios, one of which suffices to contradict
    ratios = [
        [
            paired_ratio_interval(evidence.series(row.id, metric), other, wide)
            for other in (base, evidence.series(own.id, metric))
        ]
        for row, own in zip(rows, few, strict=True)
    ]
    worst = [max(pair, key=lambda ratio: ratio.high) for pair in ratios]
    best = min(range(len(rows)), key=lambda i: worst[i].high)
    verdict = "supported" if reached and worst[best].high < 1 else "inconclusive"
    if all(any(ratio.low > 1 for ratio in pair) for pair in ratios):
        verdict = "contradicted"
    steps = limit.sampler["steps"]
    how = "reached at" if reached else "not reached; the largest number measured is"
    course = ", ".join(f"{row.sampler['steps']} steps: {means[row.id]:.4g}" for row in untouched)
    found = (
        f"{row.label}: {span(to_limit)} of the limit, {span(to_own)} of {own.label}"
        for row, own, (to_limit, to_own) in zip(rows, few, ratios, strict=True)
    )
    text = (
        f"Limit of the untouched model (doubling the steps moves {metric} by less than {change:.0%}) {how} "
        f"{steps} steps ({course}). Ratio to it and to the untouched model in as few steps, geometric means "
        f"over paired seed blocks with {wide:.1%} t intervals: {'; '.join(found)}. "
        f"Best: {rows[best].label}."
    )
    effect = worst[best]
    return ClaimResult(claim.id, verdict, effect.value, effect.low, effect.high, text)
