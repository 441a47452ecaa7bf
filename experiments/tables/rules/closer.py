"""Claims that one condition stays closer to the baseline than another."""

from __future__ import annotations

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.along import along, baselines, unmeasured
from experiments.tables.rules.evidence import Evidence, corrected, effect_of, span
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import block_interval


def closer(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is ``|metric - baseline's|`` smaller for one arm than for another at every value of a setting?

    Parameters: ``metric``; ``x``, the setting; ``near`` and ``far``, the arms, whose rows name one baseline.
    Per seed block the far distance less the near one; supported if every 95% t interval lies above 0,
    contradicted if some lies below 0 when widened for their number (Bonferroni), else inconclusive. The
    effect is the smallest mean difference.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, x = spec.take("metric", str), spec.take("x", str)
    near, far = (along(claim, evidence, spec.take(name, str), x) for name in ("near", "far"))
    spec.finish()
    bases = baselines(claim, evidence, list(near.values()))
    if list(near) != list(far) or any(near[v].baseline != far[v].baseline for v in near):
        raise SkiptuneError(f"claim {claim.id}: the arms need equal values of {x} and equal baselines")
    if (missing := unmeasured(claim, evidence, [*near.values(), *far.values(), *bases], metric)) is not None:
        return missing
    found, wide, seen = [], [], []
    for value, other in zip(near, bases, strict=True):
        a, b, base = (np.array(evidence.series(row.id, metric)) for row in (near[value], far[value], other))
        difference = [float(d) for d in np.abs(b - base) - np.abs(a - base)]
        found.append(block_interval(difference))
        wide.append(block_interval(difference, corrected(len(near))))
        seen.append(f"{value:g}: {span(found[-1])}")
    verdict = "supported" if all(interval.low > 0 for interval in found) else "inconclusive"
    if any(interval.high < 0 for interval in wide):
        verdict = "contradicted"
    least = min(found, key=lambda interval: interval.value)
    title = evidence.title(metric)
    text = (
        f"Distance of {metric} to the baseline's, far less near, mean over seed blocks with 95% t interval, "
        f"by {x}: {', '.join(seen)} (claimed above 0)."
        f"{effect_of(f'distance of {title} to the baseline, far less near, where it is least')}"
    )
    return ClaimResult(claim.id, verdict, least.value, least.low, least.high, text)
