"""Claims that one kind of intervention changes images less than another that gains as much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, effect_of, undecided
from skiptune.errors import SkiptuneError

RESAMPLES = 2000
ENDS = (2.5, 97.5)  # percentiles of a 95% interval
MATCHED = 0.975  # share of the resamples in which there must be something to compare


def closer_at_gain(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
    """Is the distance to the baseline's images smaller for one arm than for another of equal gain?

    Parameters: ``gain`` and ``distance``, metrics; ``near`` and ``far``, arms whose rows name one baseline,
    in the order of their strength. Each arm makes a line through (gain, distance) from the untouched
    network's (0, 0) on. Where a row of either gains more than 0 and the other's line reaches its gain, the
    difference is the far distance less the near one, of the line its smallest there; the effect is the mean
    over such rows, with an interval from 2000 resamples of the blocks or prompts. Supported if it lies above
    0, contradicted if below; inconclusive if it holds 0, or if in over 2.5% of the resamples no row has a
    counterpart.
    """
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    gain, distance = spec.take("gain", str), spec.take("distance", str)
    arms = {name: spec.take(name, str) for name in ("near", "far")}
    spec.finish()
    rows = {
        name: [row for row in evidence.config.rows_at(evidence.scale) if row.arm == arm]
        for name, arm in arms.items()
    }
    bases = {row.baseline for several in rows.values() for row in several}
    if not all(rows.values()):
        return undecided(claim, "not run", f"No rows of {arms['near']} and {arms['far']}.")
    if len(bases) != 1 or None in bases:
        raise SkiptuneError(f"claim {claim.id}: rows of {arms['near']} and {arms['far']} need one baseline")
    base = np.array(evidence.series(str(bases.pop()), gain))
    values: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name, several in rows.items():
        pairs = [
            (np.array(evidence.series(row.id, gain)), np.array(evidence.series(row.id, distance)))
            for row in several
        ]
        if len(base) == 0 or any(len(x) == 0 or len(y) == 0 for x, y in pairs):
            return undecided(claim, "not run", "Not all rows were measured.")
        values[name] = [(x - base, y) for x, y in pairs]
    if len(base) == 1:
        return undecided(claim, "inconclusive", "One value has no spread to test against.")
    generator = np.random.default_rng(0)
    found = [
        difference(values["near"], values["far"], generator.integers(len(base), size=len(base)))
        for _ in range(RESAMPLES)
    ]
    matched = [value for value in found if value is not None]
    shown = {
        arms[name]: ", ".join(f"({x.mean():+.4f}, {y.mean():.3g})" for x, y in values[name]) for name in arms
    }
    listed = "; ".join(f"{name}: {points}" for name, points in shown.items())
    points = f"({gain} gained, {distance}) of {listed}"
    what = f"{distance} of {arms['far']} less that of {arms['near']}"
    unit = evidence.unit(row.id for several in rows.values() for row in several)
    now = difference(values["near"], values["far"], np.arange(len(base)))
    if now is None or len(matched) < MATCHED * RESAMPLES:
        why = (
            f"In {1 - len(matched) / RESAMPLES:.1%} of {RESAMPLES} resamples of the {unit} there is "
            f"no gain above 0 that both {arms['near']} and {arms['far']} reach. {points}."
        )
        return undecided(claim, "inconclusive", why)
    low, high = (float(end) for end in np.percentile(matched, ENDS))
    verdict = "supported" if low > 0 else "contradicted" if high < 0 else "inconclusive"
    text = (
        f"{what} at equal gains: {now:.3g} "
        f"[{low:.3g}, {high:.3g}], 95% interval of {RESAMPLES} resamples of the {unit} (claimed "
        f"above 0). {points}.{effect_of(what)}"
    )
    return ClaimResult(claim.id, verdict, now, min(low, now), max(high, now), text)


Points = Sequence[tuple[np.ndarray, np.ndarray]]
"""Gain and distance of every row, each with a value per block or prompt."""


def difference(near: Points, far: Points, chosen: np.ndarray) -> float | None:
    """The mean difference of distances among the chosen blocks; None where no row has a counterpart."""
    points = [
        [(float(x[chosen].mean()), float(y[chosen].mean())) for x, y in several] for several in (near, far)
    ]
    found = []
    for own, others, sign in ((points[0], points[1], 1), (points[1], points[0], -1)):
        line = [(0.0, 0.0), *others]
        for gain, distance in own:
            other = distance_at(line, gain) if gain > 0 else None
            if other is not None:
                found.append(sign * (other - distance))
    return float(np.mean(found)) if found else None


def distance_at(line: Sequence[tuple[float, float]], gain: float) -> float | None:
    """The smallest distance where a line of (gain, distance) has that gain; None if nowhere."""
    found = []
    for (x, y), (next_x, next_y) in zip(line, line[1:], strict=False):
        if min(x, next_x) <= gain <= max(x, next_x):
            part = 0.0 if next_x == x else (gain - x) / (next_x - x)
            found.append(y + part * (next_y - y))
    return min(found) if found else None
