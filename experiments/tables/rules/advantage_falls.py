"""Claims that the advantage over the baseline shrinks along a setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.along import along, baselines, unmeasured
from experiments.tables.rules.evidence import Evidence, effect_of, span
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import Interval, block_interval


def advantage_falls(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is there an advantage over the baseline that falls as a setting grows, absolutely and relatively?

    Parameters: ``metric``; ``x``, a positive setting of two values or more; ``arm`` of the rows. Per seed
    block the slopes of ``baseline - value`` (absolute) and of ``1 - value / baseline`` (relative) against
    ``ln x`` (least squares). A form is supported if the 95% t interval of its slope lies below 0 and that of
    the advantage at the least x above 0; contradicted if the first lies above 0 or the second below. The
    claim takes both forms; what each is found to be is said. The effect is the absolute slope.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, x, arm = spec.take("metric", str), spec.take("x", str), spec.take("arm", str)
    spec.finish()
    curve = along(claim, evidence, arm, x)
    rows, bases = list(curve.values()), baselines(claim, evidence, list(curve.values()))
    if (missing := unmeasured(claim, evidence, [*rows, *bases], metric)) is not None:
        return missing
    if len(curve) < 2 or min(curve) <= 0:
        raise SkiptuneError(f"claim {claim.id}: a slope takes two or more positive values of {x}")
    own, base = (np.array([evidence.series(row.id, metric) for row in some]) for some in (rows, bases))
    forms = {"absolute": base - own, "relative": 1 - own / base}
    slope = {name: block_interval(slopes(list(curve), gains)) for name, gains in forms.items()}
    first = block_interval([float(gain) for gain in forms["absolute"][0]])
    verdicts = {name: _verdict(interval, first) for name, interval in slope.items()}
    verdict = verdicts["absolute"] if len(set(verdicts.values())) == 1 else "inconclusive"
    gains = ", ".join(
        f"{value:g}: {gain:.3g} ({share:.1%})"
        for value, gain, share in zip(
            curve, forms["absolute"].mean(1), 1 - own.mean(1) / base.mean(1), strict=True
        )
    )
    found = ", ".join(f"{name} form {span(slope[name])}: {verdicts[name]}" for name in forms)
    text = (
        f"Slope of the advantage against ln {x}, mean over seed blocks with 95% t interval, claimed below 0 "
        f"where there is an advantage at {x} {min(curve):g} ({span(first)}): {found}. "
        f"Advantage by {x}: {gains}."
        f"{effect_of(f'slope of the absolute advantage in {metric} against ln {x}')}"
    )
    effect = slope["absolute"]
    return ClaimResult(claim.id, verdict, effect.value, effect.low, effect.high, text)


def _verdict(slope: Interval, first: Interval) -> str:
    if slope.low > 0 or first.high < 0:
        return "contradicted"
    return "supported" if slope.high < 0 < first.low else "inconclusive"


def slopes(x: Sequence[float], values: np.ndarray) -> list[float]:
    """Least-squares slope against ``ln x`` of every column of ``values`` ``[len(x), blocks]``."""
    centred = np.log(x) - np.mean(np.log(x))
    return [float(slope) for slope in centred @ values / (centred @ centred)]
