"""Claims about the shape of curves (a metric against a setting), decided by resampling the seed blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from scipy.stats import spearmanr

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, Rule, undecided
from skiptune.errors import SkiptuneError

RESAMPLES = 2000
SURE = 0.95  # share of the resamples in which a claim must hold, or fail

Curve = Sequence[tuple[float, float]]
"""Points (x, metric), x rising."""
Shape = Callable[[Mapping[float, Curve]], bool]
"""Whether curves, by the value of the setting that tells them apart (rising), have the claimed shape."""


def rule(shape: Shape, what: str) -> Rule:
    """A rule that asks for a shape.

    Parameters: ``metric``; ``x``, the setting along a curve; ``group``, the setting that tells curves apart
    (one curve if absent); ``arms`` of the rows that make up the curves; ``gain``, whether a point is the fall
    from the row's baseline instead of the metric itself. The seed blocks, which all rows
    share, are drawn with replacement 2000 times; the effect is the share of the draws whose mean curves have
    the shape. Supported from 95% on, contradicted up to 5%.
    """

    def judge(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
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
        count, generator = counts.pop(), np.random.default_rng(0)

        def holds(blocks: np.ndarray) -> bool:
            means = {k: [(p, float(v[blocks].mean())) for p, v in points] for k, points in curves.items()}
            return shape(means)

        share = float(np.mean([holds(generator.integers(count, size=count)) for _ in range(RESAMPLES)]))
        verdict = "supported" if share >= SURE else "contradicted" if share <= 1 - SURE else "inconclusive"
        on_all = "holds" if holds(np.arange(count)) else "does not hold"
        metric = f"fall of {metric}" if gain else metric
        found = "; ".join(_described(key, points, group, x, metric) for key, points in curves.items())
        resampled = f"in {share:.1%} of {RESAMPLES} resamples of the {count} seed blocks"
        text = f"{what}: {on_all} for the means, and {resampled}. {found}."
        return ClaimResult(claim.id, verdict, share, None, None, text)

    return judge


def _described(
    key: float, points: Sequence[tuple[float, np.ndarray]], group: str | None, x: str, metric: str
) -> str:
    name = "" if group is None else f"{group} {key:g}: "
    values = ", ".join(f"{p:g}: {v.mean():.4g}" for p, v in points)
    return f"{name}{metric} by {x} {values}"


def lowest(curve: Curve) -> float:
    """The x of the lowest point."""
    return min(curve, key=lambda point: point[1])[0]


def u_shaped(curves: Mapping[float, Curve]) -> bool:
    """Every curve has its lowest point inside: below its value at either end."""
    return all(curve[0][0] < lowest(curve) < curve[-1][0] for curve in curves.values())


def best_rises(curves: Mapping[float, Curve]) -> bool:
    """The x of the lowest point never falls from curve to curve, rises in all, and ends below the last x."""
    best = [lowest(curve) for curve in curves.values()]
    return all(a <= b for a, b in pairwise(best)) and best[0] < best[-1] < list(curves.values())[-1][-1][0]


def best_never_falls(curves: Mapping[float, Curve]) -> bool:
    """The x of the lowest point never falls as the curves' setting rises."""
    best = [lowest(curve) for curve in curves.values()]
    return all(a <= b for a, b in pairwise(best))


def all_fall(curves: Mapping[float, Curve]) -> bool:
    """Every curve falls, or stays, along x."""
    return all(b <= a for curve in curves.values() for (_, a), (_, b) in pairwise(curve))


def gain_falls(curves: Mapping[float, Curve]) -> bool:
    """(value at the last x) / (lowest value) falls from curve to curve."""
    gains = [curve[-1][1] / min(value for _, value in curve) for curve in curves.values()]
    return all(b < a for a, b in pairwise(gains))


def rises_as_x_falls(curves: Mapping[float, Curve], correlation: float = -0.9) -> bool:
    """Spearman's correlation of the value with x is at most -0.9 on every curve."""
    return all(
        spearmanr([x for x, _ in curve], [value for _, value in curve]).statistic <= correlation
        for curve in curves.values()
    )


def highest_inside(curves: Mapping[float, Curve]) -> bool:
    """Every curve's highest value is not at either end."""
    return all(
        max(curve, key=lambda p: p[1])[0] not in (curve[0][0], curve[-1][0]) for curve in curves.values()
    )


def lowest_in_the_middle(curves: Mapping[float, Curve], margin: int = 3) -> bool:
    """Every curve's lowest point is neither among its first three nor among its last three."""
    return all(lowest(curve) in [x for x, _ in curve[margin:-margin]] for curve in curves.values())


def falls_then_rises(curves: Mapping[float, Curve]) -> bool:
    """Every curve goes below its first value and ends above it."""
    return all(min(value for _, value in curve[1:]) < curve[0][1] < curve[-1][1] for curve in curves.values())


CURVE_RULES: dict[str, Rule] = {
    name: rule(shape, what)
    for name, shape, what in (
        ("u_shaped", u_shaped, "Lowest point of every curve inside of its ends"),
        ("best_rises", best_rises, "Lowest point moves up from curve to curve and stays below the last x"),
        ("best_never_falls", best_never_falls, "Lowest point never moves down from curve to curve"),
        ("all_fall", all_fall, "No curve rises anywhere"),
        ("gain_falls", gain_falls, "Gain (value at the last x over the lowest) falls from curve to curve"),
        ("rises_as_x_falls", rises_as_x_falls, "Spearman correlation with x at most -0.9"),
        ("highest_inside", highest_inside, "Highest value not at an end"),
        ("lowest_in_the_middle", lowest_in_the_middle, "Lowest point not among the three at either end"),
        ("falls_then_rises", falls_then_rises, "Falls below its beginning, ends above it"),
    )
}
