"""Claims that the advantage over the baseline shrinks along a setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.along import along, unmeasured
from experiments.tables.rules.evidence import Evidence, span
from skiptune.evaluation.intervals import block_interval


def advantage_falls(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Does a row's advantage over its baseline fall as a setting grows, absolutely and relatively?

    Parameters: ``metric``; ``x``, the positive setting; ``arm`` of the rows. Per seed block the slopes of
    ``baseline - value`` and of ``1 - value / baseline`` against ``ln x`` (least squares); supported if the
    95% t intervals of both lie below 0, contradicted if both lie above, else inconclusive. The effect is the
    absolute slope.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, x, arm = spec.take("metric", str), spec.take("x", str), spec.take("arm", str)
    spec.finish()
    curve = along(evidence, arm, x)
    ids = [id for row in curve.values() for id in (row.id, row.baseline or row.id)]
    if (missing := unmeasured(claim, evidence, ids, metric)) is not None:
        return missing
    own = np.array([evidence.series(row.id, metric) for row in curve.values()])
    base = np.array([evidence.series(row.baseline or row.id, metric) for row in curve.values()])
    absolute = block_interval(slopes(list(curve), base - own))
    relative = block_interval(slopes(list(curve), 1 - own / base))
    verdict = "supported" if max(absolute.high, relative.high) < 0 else "inconclusive"
    if min(absolute.low, relative.low) > 0:
        verdict = "contradicted"
    gains = ", ".join(
        f"{value:g}: {gain:.3g} ({share:.1%})"
        for value, gain, share in zip(
            curve, (base - own).mean(1), 1 - own.mean(1) / base.mean(1), strict=True
        )
    )
    text = (
        f"Slope of the advantage against ln {x}, mean over seed blocks with 95% t interval: absolute "
        f"{span(absolute)}, relative {span(relative)} (claimed below 0). Advantage by {x}: {gains}."
    )
    return ClaimResult(claim.id, verdict, absolute.value, absolute.low, absolute.high, text)


def slopes(x: Sequence[float], values: np.ndarray) -> list[float]:
    """Least-squares slope against ``ln x`` of every column of ``values`` ``[len(x), blocks]``."""
    centred = np.log(x) - np.mean(np.log(x))
    return [float(slope) for slope in centred @ values / (centred @ centred)]
