"""Claims about the shape of curves (a metric against a setting), decided by resampling the seed blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit
from scipy.stats import spearmanr

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, Rule, effect_of, undecided
from skiptune.errors import SkiptuneError

RESAMPLES = 2000
SURE = 0.975  # share of the resamples in which a claim must hold, or fail

Curve = Sequence[tuple[float, float]]
"""Points (x, metric), x rising."""
Curves = Sequence[Curve]
"""In the order of the setting that tells them apart, rising."""


@dataclass(frozen=True)
class Shape:
    """A shape of curves.

    Attributes:
        holds: whether some curves have it.
        each: whether it is asked of every curve by itself, so that one curve can contradict it.
        parts: what it consists of, each reported with a share of its own.
    """

    what: str
    holds: Callable[[Curves], bool]
    each: bool = True
    parts: Mapping[str, Callable[[Curves], bool]] = field(default_factory=dict)


def rule(shape: Shape) -> Rule:
    """A rule that asks for a shape.

    Parameters: ``metric``; ``x``, the setting along a curve; ``group``, the setting that tells curves apart
    (one curve if absent); ``arms`` of the rows that make up the curves; ``gain``, whether a point is the fall
    from the row's baseline instead of the metric itself.

    The seed blocks, which all rows share, are drawn with replacement 2000 times; deviations from the mean are
    stretched to the width of a t interval of as many blocks. The effect is the share of the draws in which
    the shape holds. Supported from 97.5% on. Contradicted if it holds in at most 2.5%, divided by the number
    of curves, of the draws of one curve; of all together where the shape relates curves, which takes two.
    """

    def judge(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
        found = _curves(claim, evidence)
        if isinstance(found, ClaimResult):
            return found
        data, described = found
        if not shape.each and len(data) == 1:
            raise SkiptuneError(
                f"claim {claim.id}: rule '{claim.rule}' relates curves, but the rows of its `arms` make up "
                "one; name a `group` that tells curves apart, or more arms"
            )
        count, generator = data[0][0][1].shape[0], np.random.default_rng(0)
        # Of count blocks the bootstrap's spread is too small by sqrt(1 - 1/count), and normal instead of t.
        stretch = (count / (count - 1)) ** 0.5 * stdtrit(count - 1, 0.975) / 1.959964
        apart = np.zeros(len(data))
        together, in_part = 0, dict.fromkeys(shape.parts, 0)
        for _ in range(RESAMPLES):
            blocks = generator.integers(count, size=count)
            drawn = [
                [(x, v.mean() + stretch * (v[blocks].mean() - v.mean())) for x, v in curve] for curve in data
            ]
            together += shape.holds(drawn)
            for part, holds in shape.parts.items():
                in_part[part] += holds(drawn)
            if shape.each:
                apart += [shape.holds([curve]) for curve in drawn]
        share = together / RESAMPLES
        worst = apart.min() / RESAMPLES if shape.each else share
        fails = worst <= (1 - SURE) / (len(data) if shape.each else 1)
        verdict = "supported" if share >= SURE else "contradicted" if fails else "inconclusive"
        on_all = shape.holds([[(x, float(v.mean())) for x, v in curve] for curve in data])
        by_part = ", ".join(f"{part} in {n / RESAMPLES:.1%}" for part, n in in_part.items())
        text = (
            f"{shape.what}: {'holds' if on_all else 'does not hold'} for the means, and in {share:.1%} of "
            f"{RESAMPLES} resamples of the {count} seed blocks{f' ({by_part})' if by_part else ''}. "
            f"{described}."
            f"{effect_of('share of resamples in which it holds')}"
        )
        return ClaimResult(claim.id, verdict, share, None, None, text)

    return judge


Blocks = list[list[tuple[float, np.ndarray]]]
"""Curves of points (x, one value per seed block)."""


def _curves(claim: ClaimConfig, evidence: Evidence) -> tuple[Blocks, str] | ClaimResult:
    """The curves of a claim with their description, or why there are none."""
    spec = Section(claim.parameters, f"claim {claim.id}: parameters")
    metric, x = spec.take("metric", str), spec.take("x", str)
    group, arms = spec.optional("group", str, None), spec.take("arms", Sequence)
    gain = spec.flag("gain", False)
    spec.finish()
    rows = [row for row in evidence.config.rows_at(evidence.scale) if row.arm in arms]
    data: dict[float, list[tuple[float, np.ndarray]]] = {}
    for row in rows:
        settings = row.settings(evidence.selected.get(row.id))
        if x not in settings or (group is not None and group not in settings):
            raise SkiptuneError(f"claim {claim.id}: row '{row.id}' has no setting {x} or {group}")
        values = np.array(evidence.series(row.id, metric))
        if gain:
            values = np.array(evidence.series(row.baseline or "", metric)) - values
        if len(values) == 0:
            return undecided(claim, "not run", f"No values of '{row.id}'.")
        key = float(settings[group]) if group is not None else 0.0
        data.setdefault(key, []).append((float(settings[x]), values))
    if not data:
        return undecided(claim, "not run", f"No rows of {', '.join(arms)} at scale {evidence.scale}.")
    counts = {len(values) for points in data.values() for _, values in points}
    if len(counts) != 1 or counts == {1}:
        return undecided(claim, "inconclusive", "One seed block, or different ones, cannot be resampled.")
    curves = {key: sorted(data[key], key=lambda point: point[0]) for key in sorted(data)}
    metric = f"fall of {metric}" if gain else metric
    described = "; ".join(_described(key, points, group, x, metric) for key, points in curves.items())
    return list(curves.values()), described


def _described(
    key: float, points: Sequence[tuple[float, np.ndarray]], group: str | None, x: str, metric: str
) -> str:
    name = "" if group is None else f"{group} {key:g}: "
    values = ", ".join(f"{p:g}: {v.mean():.4g}" for p, v in points)
    return f"{name}{metric} by {x} {values}"


def lowest(curve: Curve) -> float:
    """The x of the lowest point."""
    return min(curve, key=lambda point: point[1])[0]


def lowest_inside(curves: Curves) -> bool:
    """Every curve has its lowest point inside: below its value at either end."""
    return all(curve[0][0] < lowest(curve) < curve[-1][0] for curve in curves)


def best_rises(curves: Curves) -> bool:
    """The x of the lowest point never falls from curve to curve, rises in all, and ends below the last x."""
    best = [lowest(curve) for curve in curves]
    return all(a <= b for a, b in pairwise(best)) and best[0] < best[-1] < curves[-1][-1][0]


def best_never_falls(curves: Curves) -> bool:
    """The x of the lowest point never falls as the curves' setting rises."""
    return all(a <= b for a, b in pairwise(lowest(curve) for curve in curves))


def best_rises_in_all(curves: Curves) -> bool:
    """The x of the lowest point is larger on the last curve than on the first."""
    return lowest(curves[0]) < lowest(curves[-1])


def best_above_first(curves: Curves) -> bool:
    """The x of the lowest point of every other curve is above the first one's."""
    first, *others = (lowest(curve) for curve in curves)
    return all(best > first for best in others)


def gain_falls(curves: Curves) -> bool:
    """(value at the last x) / (lowest value) never rises from curve to curve, and falls in all.

    Where the last x is best the gain is 1, exactly and on as many curves as it may be.
    """
    gains = [curve[-1][1] / min(value for _, value in curve) for curve in curves]
    return all(b <= a for a, b in pairwise(gains)) and gains[-1] < gains[0]


def rises_as_x_falls(curves: Curves) -> bool:
    """Spearman's correlation of the value with x is at most -0.9 on every curve."""
    return all(spearmanr([x for x, _ in c], [value for _, value in c]).statistic <= -0.9 for c in curves)


def highest_inside(curves: Curves) -> bool:
    """Every curve's highest value is not at either end."""
    return all(max(c, key=lambda p: p[1])[0] not in (c[0][0], c[-1][0]) for c in curves)


def lowest_in_the_middle(curves: Curves) -> bool:
    """Every curve's lowest point is neither among its first three nor among its last three."""
    return all(lowest(curve) in [x for x, _ in curve[3:-3]] for curve in curves)


def falls_then_rises(curves: Curves) -> bool:
    """Every curve goes below its first value and ends above it."""
    return all(min(value for _, value in c[1:]) < c[0][1] < c[-1][1] for c in curves)


def helps(curves: Curves) -> bool:
    """The last curve falls below its beginning."""
    return min(value for _, value in curves[-1][1:]) < curves[-1][0][1]


def harms(curves: Curves) -> bool:
    """The last curve ends above its beginning."""
    return curves[-1][-1][1] > curves[-1][0][1]


def stays_above(curves: Curves) -> bool:
    """The last curve never comes down to the others."""
    *others, course = curves
    return min(value for _, value in course) > min(value for curve in others for _, value in curve)


def helps_then_harms(curves: Curves) -> bool:
    """The last curve falls below its beginning and ends above it, but never comes down to the others."""
    return helps(curves) and harms(curves) and stays_above(curves)


CURVE_RULES: dict[str, Rule] = {
    "lowest_inside": rule(Shape("Lowest point of every curve inside of its ends", lowest_inside)),
    "best_rises": rule(
        Shape("Lowest point moves up from curve to curve and stays below the last x", best_rises, each=False)
    ),
    "best_never_falls": rule(
        Shape(
            "Lowest point never moves down from curve to curve",
            best_never_falls,
            each=False,
            parts={"moves up in all": best_rises_in_all},
        )
    ),
    "best_above_first": rule(
        Shape("Lowest point of every other curve above the first one's", best_above_first, each=False)
    ),
    "gain_falls": rule(
        Shape(
            "Gain (value at the last x over the lowest) never rises from curve to curve, and falls in all",
            gain_falls,
            each=False,
        )
    ),
    "rises_as_x_falls": rule(Shape("Spearman correlation with x at most -0.9", rises_as_x_falls)),
    "highest_inside": rule(Shape("Highest value not at an end", highest_inside)),
    "lowest_in_the_middle": rule(
        Shape("Lowest point not among the three at either end", lowest_in_the_middle)
    ),
    "falls_then_rises": rule(Shape("Falls below its beginning, ends above it", falls_then_rises)),
    "helps_then_harms": rule(
        Shape(
            "Last curve falls below its beginning, ends above it, and stays above the others' lowest point",
            helps_then_harms,
            each=False,
            parts={"falls": helps, "ends above": harms, "stays above the others": stays_above},
        )
    ),
}
