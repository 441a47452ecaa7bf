"""Claims that learned coefficients leave a bound and ruin sampling."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span, undecided, widened
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import paired_ratio_interval


def ruined_beyond(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is some skip coefficient of every row above a bound, and its metric above a multiple of the baseline's?

    Parameters: ``metric``, ``bound``, ``factor``, ``rows`` by scale. Coefficients are known without error; of
    the metric, the paired ratio to the baseline over seed blocks counts. Supported if every row has a
    coefficient above ``bound`` and a 95% t interval of the ratio above ``factor``; contradicted if some row
    has no such coefficient, or an interval, widened for the number of rows (Bonferroni), below ``factor``;
    else inconclusive. The effect is the smallest ratio.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, bound, factor = spec.take("metric", str), spec.number("bound"), spec.number("factor")
    by_scale = spec.take("rows", Mapping)
    spec.finish()
    rows = [evidence.config.row(id) for id in by_scale.get(evidence.scale, ())]
    if not rows:
        return undecided(claim, "not run", f"No rows are named at scale {evidence.scale}.")
    largest, ratios, wide = [], [], []
    for row in rows:
        if row.baseline is None:
            raise SkiptuneError(f"claim {claim.id}: row '{row.id}' names no baseline; give it one")
        rho = evidence.interventions.get(row.id, {}).get("rho")
        ours, base = evidence.series(row.id, metric), evidence.series(row.baseline, metric)
        if not rho or not ours or not base:
            return undecided(claim, "not run", f"No coefficients or values of '{row.id}' or its baseline.")
        if len(ours) == 1:
            return undecided(claim, "inconclusive", "One seed block has no spread to test against.")
        largest.append(max(rho))
        ratios.append(paired_ratio_interval(ours, base))
        wide.append(paired_ratio_interval(ours, base, corrected(len(rows))))
    verdict = "inconclusive"
    if any(value <= bound for value in largest) or any(ratio.high < factor for ratio in wide):
        verdict = "contradicted"
    elif all(ratio.low > factor for ratio in ratios):
        verdict = "supported"
    found = "; ".join(
        f"{row.label}: largest coefficient {value:.3f}, ratio {span(ratio)}"
        + widened(deciding, len(rows), ratio.high < factor)
        for row, value, ratio, deciding in zip(rows, largest, ratios, wide, strict=True)
    )
    least = min(ratios, key=lambda ratio: ratio.value)
    text = (
        f"Claimed: a coefficient above {bound:g}, and a ratio of {metric} to the baseline's above {factor:g} "
        f"(geometric mean over paired seed blocks with 95% t interval). {found}."
        f"{effect_of(f'smallest ratio of {metric} to the baseline')}"
    )
    return ClaimResult(claim.id, verdict, least.value, least.low, least.high, text)
