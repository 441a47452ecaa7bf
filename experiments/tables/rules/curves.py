"""Claims about the shape of curves (a metric against a setting), decided by resampling the seed blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from experiments.tables.config import ClaimConfig
from experiments.tables.parsing import Section
from experiments.tables.results import ClaimResult
from experiments.tables.rules.evidence import Evidence, Rule, effect_of, undecided
from experiments.tables.rules.shapes import BOUNDS, SHAPES, Shape
from skiptune.errors import SkiptuneError

RESAMPLES = 2000
SURE = 0.975  # share of the resamples in which a claim must hold, or fail


def rule(shape: Shape) -> Rule:
    """A rule that asks for a shape.

    Parameters: ``metric``; ``x``, the setting along a curve; ``group``, the setting that tells curves apart
    (one curve if absent); ``arms`` of the rows that make up the curves; ``gain``, whether a point is the fall
    from the row's baseline instead of the metric itself.

    The seed blocks, which all rows share, are drawn with replacement 2000 times; deviations from the mean are
    stretched to the width of a t interval of as many blocks. Supported if the shape holds in 97.5% of the
    draws or more. Contradicted if it holds in at most 2.5%, divided by the number of curves, of the draws of
    one curve; of all together where the shape relates curves, which takes two. The effect is the number of
    the part that holds least often, for the means of all blocks, from its 2.5% to its 97.5% quantile in the
    draws.
    """

    def judge(claim: ClaimConfig, evidence: Evidence) -> ClaimResult:
        found = _curves(claim, evidence)
        if isinstance(found, ClaimResult):
            return found
        data, described = found
        asked, words = {**shape.parts, **(shape.besides or {})}, _words(claim, evidence)
        if not shape.each and len(data) == 1:
            raise SkiptuneError(
                f"claim {claim.id}: rule '{claim.rule}' relates curves, but the rows of its `arms` make up "
                "one; name a `group` that tells curves apart, or more arms"
            )
        fewest = min(map(len, data if shape.each else data[-1:]))
        if fewest < shape.points:
            raise SkiptuneError(
                f"claim {claim.id}: rule '{claim.rule}' asks for {shape.points} points or more along "
                f"{claim.parameters['x']}, a curve has {fewest}; add rows"
            )
        count, generator = data[0][0][1].shape[0], np.random.default_rng(0)
        # Of count blocks the bootstrap's spread is too small by sqrt(1 - 1/count), and normal instead of t.
        stretch = (count / (count - 1)) ** 0.5 * stdtrit(count - 1, 0.975) / 1.959964
        apart, together = np.zeros(len(data)), 0
        effects: dict[str, list[float]] = {part: [] for part in asked}
        for _ in range(RESAMPLES):
            blocks = generator.integers(count, size=count)
            drawn = [
                [(x, v.mean() + stretch * (v[blocks].mean() - v.mean())) for x, v in curve] for curve in data
            ]
            for name, part in asked.items():
                effects[name].append(part.effect(drawn))
            together += all(BOUNDS[part.claimed](effects[name][-1]) for name, part in shape.parts.items())
            if shape.each:
                apart += [shape.holds([curve]) for curve in drawn]
        share = together / RESAMPLES
        worst = apart.min() / RESAMPLES if shape.each else share
        fails = worst <= (1 - SURE) / (len(data) if shape.each else 1)
        verdict = "supported" if share >= SURE else "contradicted" if fails else "inconclusive"
        means = [[(x, float(v.mean())) for x, v in curve] for curve in data]
        shares = {
            name: float(np.mean([BOUNDS[part.claimed](effect) for effect in effects[name]]))
            for name, part in asked.items()
        }
        by_part = (
            ", ".join(f"{name} in {held:.1%}" for name, held in shares.items()) if len(asked) > 1 else ""
        )
        by_part = f" ({by_part})" if by_part else ""
        deciding = min(shape.parts, key=lambda name: shares[name])  # what holds least often
        part = shape.parts[deciding]
        effect, spread = part.effect(means), np.quantile(effects[deciding], [1 - SURE, SURE])
        text = (
            f"{shape.what.format(**words)}: {'holds' if shape.holds(means) else 'does not hold'} for the "
            f"means, and in {share:.1%} of {RESAMPLES} resamples of the {count} seed blocks{by_part}. "
            f"{described}."
            f"{effect_of(f'{part.named.format(**words)} (claimed {part.claimed})')}"
        )
        low, high = min(effect, float(spread[0])), max(effect, float(spread[1]))
        return ClaimResult(claim.id, verdict, effect, low, high, text)

    return judge


def _words(claim: ClaimConfig, evidence: Evidence) -> dict[str, str]:
    """The titles of what the claim is about."""
    named = {key: evidence.title(str(claim.parameters.get(key, "curve"))) for key in ("metric", "x", "group")}
    return named | {
        "metric": f"fall of {named['metric']}" if claim.parameters.get("gain") else named["metric"]
    }


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


CURVE_RULES: dict[str, Rule] = {name: rule(shape) for name, shape in SHAPES.items()}
