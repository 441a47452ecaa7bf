"""Shapes of curves (a metric against a setting) that claims speak of, each with a number that tells most."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Curve = Sequence[tuple[float, float]]
"""Points (x, metric), x rising."""
Curves = Sequence[Curve]
"""In the order of the setting that tells them apart, rising."""


@dataclass(frozen=True)
class Shape:
    """A shape of curves.

    Attributes:
        what: the shape in words, in which ``{metric}`` and ``{x}`` stand for those of a claim.
        holds: whether some curves have it.
        effect: how far they have it or miss it, in a number.
        named: that number in words, likewise.
        points: fewest points of a curve, of the last one if the shape relates curves.
        each: whether the shape is asked of every curve by itself, so that one curve can contradict it.
        parts: what it consists of, each reported with a share of its own.
    """

    what: str
    holds: Callable[[Curves], bool]
    effect: Callable[[Curves], float]
    named: str
    points: int = 2
    each: bool = True
    parts: Mapping[str, Callable[[Curves], bool]] = field(default_factory=dict)


def lowest(curve: Curve) -> float:
    """The x of the lowest point."""
    return min(curve, key=lambda point: point[1])[0]


def _values(curve: Curve) -> list[float]:
    return [value for _, value in curve]


def lowest_inside(curves: Curves) -> bool:
    """Every curve has its lowest point inside: below its value at either end."""
    return all(curve[0][0] < lowest(curve) < curve[-1][0] for curve in curves)


def ends_over_inside(curves: Curves, ends: int = 1) -> float:
    """The lowest of the first and last ``ends`` points over the lowest between, where that is least."""
    found = []
    for curve in curves:
        values = _values(curve)
        found.append(min(values[:ends] + values[-ends:]) / min(values[ends:-ends]))
    return min(found)


def lowest_in_the_middle(curves: Curves) -> bool:
    """Every curve's lowest point is neither among its first three nor among its last three."""
    return all(lowest(curve) in [x for x, _ in curve[3:-3]] for curve in curves)


def best_rises(curves: Curves) -> bool:
    """The x of the lowest point never falls from curve to curve, rises in all, and ends below the last x."""
    return best_moves_up(curves) and best_stays_below(curves)


def best_moves_up(curves: Curves) -> bool:
    """The x of the lowest point never falls from curve to curve, and rises in all."""
    return best_never_falls(curves) and best_rises_in_all(curves)


def best_stays_below(curves: Curves) -> bool:
    """The lowest point of the last curve is not at the last x."""
    return lowest(curves[-1]) < curves[-1][-1][0]


def last_over_before(curves: Curves) -> float:
    """The value at the last x over the lowest of the others, on the last curve."""
    *before, last = _values(curves[-1])
    return last / min(before)


def best_never_falls(curves: Curves) -> bool:
    """The x of the lowest point never falls as the curves' setting rises."""
    return all(a <= b for a, b in pairwise(lowest(curve) for curve in curves))


def best_rises_in_all(curves: Curves) -> bool:
    """The x of the lowest point is larger on the last curve than on the first."""
    return best_shift(curves) > 0


def best_shift(curves: Curves) -> float:
    """The x of the lowest point of the last curve minus that of the first."""
    return lowest(curves[-1]) - lowest(curves[0])


def best_above_first(curves: Curves) -> bool:
    """The x of the lowest point of every other curve is above the first one's."""
    return least_lead(curves) > 0


def least_lead(curves: Curves) -> float:
    """The least x of the lowest point of the other curves, minus that of the first."""
    first, *others = (lowest(curve) for curve in curves)
    return min(others) - first


def gain(curve: Curve) -> float:
    """(Value at the last x) / (lowest value): 1, exactly, where the last x is best."""
    return curve[-1][1] / min(_values(curve))


def gain_falls(curves: Curves) -> bool:
    """The gain never rises from curve to curve, and falls in all."""
    gains = [gain(curve) for curve in curves]
    return all(b <= a for a, b in pairwise(gains)) and gains[-1] < gains[0]


def fall_of_gain(curves: Curves) -> float:
    """The gain on the first curve over that on the last."""
    return gain(curves[0]) / gain(curves[-1])


def rises_as_x_falls(curves: Curves) -> bool:
    """Spearman's correlation of the value with x is at most -0.9 on every curve."""
    return largest_correlation(curves) <= -0.9


def largest_correlation(curves: Curves) -> float:
    """Spearman's correlation of the value with x, on the curve where it is largest."""
    return max(correlation(curve) for curve in curves)


def correlation(curve: Curve) -> float:
    """Spearman's, of the value with x; NaN where all are equal. For so few points scipy's is slow."""
    x, y = (_centred_ranks(some) for some in zip(*curve, strict=True))
    scale = math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / scale if scale else math.nan


def _centred_ranks(values: Sequence[float]) -> list[float]:
    rising = sorted(values)
    return [rising.index(v) + (rising.count(v) - len(rising)) / 2 for v in values]


def highest_inside(curves: Curves) -> bool:
    """Every curve's highest value is not at either end."""
    return all(max(c, key=lambda p: p[1])[0] not in (c[0][0], c[-1][0]) for c in curves)


def inside_above_ends(curves: Curves) -> float:
    """The highest value inside minus that at the higher end, on the curve where it is least."""
    return min(max(_values(c)[1:-1]) - max(c[0][1], c[-1][1]) for c in curves)


def helps(curves: Curves) -> bool:
    """The last curve falls below its beginning."""
    return best_of_course(curves) < 1


def best_of_course(curves: Curves) -> float:
    """The lowest later value of the last curve over its first."""
    return min(_values(curves[-1])[1:]) / curves[-1][0][1]


def harms(curves: Curves) -> bool:
    """The last curve ends above its beginning."""
    return curves[-1][-1][1] > curves[-1][0][1]


def stays_above(curves: Curves) -> bool:
    """The last curve never comes down to the others."""
    *others, course = curves
    return min(_values(course)) > min(value for curve in others for value in _values(curve))


def helps_then_harms(curves: Curves) -> bool:
    """The last curve falls below its beginning and ends above it, but never comes down to the others."""
    return helps(curves) and harms(curves) and stays_above(curves)


SHAPES = {
    "lowest_inside": Shape(
        "Lowest point of every curve inside of its ends",
        lowest_inside,
        ends_over_inside,
        "{metric} at the lower end over the lowest inside, on the curve where it is least",
        points=3,
    ),
    "lowest_in_the_middle": Shape(
        "Lowest point not among the three at either end",
        lowest_in_the_middle,
        lambda curves: ends_over_inside(curves, 3),
        "lowest {metric} of the three points at either end over the lowest between",
        points=7,
    ),
    "best_rises": Shape(
        "Lowest point moves up from curve to curve and stays below the last {x}",
        best_rises,
        last_over_before,
        "{metric} at the last {x} over the lowest before it, on the last curve",
        each=False,
        parts={"moves up": best_moves_up, "stays below": best_stays_below},
    ),
    "best_never_falls": Shape(
        "Lowest point never moves down from curve to curve",
        best_never_falls,
        best_shift,
        "best {x} of the last curve minus that of the first",
        each=False,
        parts={"moves up in all": best_rises_in_all},
    ),
    "best_above_first": Shape(
        "Lowest point of every other curve above the first one's",
        best_above_first,
        least_lead,
        "least of the best {x} of the other curves minus that of the first",
        each=False,
    ),
    "gain_falls": Shape(
        "Gain ({metric} at the last {x} over the lowest) never rises from curve to curve, and falls in all",
        gain_falls,
        fall_of_gain,
        "gain on the first curve over that on the last",
        each=False,
    ),
    "rises_as_x_falls": Shape(
        "Spearman correlation with {x} at most -0.9",
        rises_as_x_falls,
        largest_correlation,
        "largest correlation of {metric} with {x} on a curve",
    ),
    "highest_inside": Shape(
        "Highest value not at an end",
        highest_inside,
        inside_above_ends,
        "the highest value inside minus that at the higher end, on the curve where it is least",
        points=3,
    ),
    "helps_then_harms": Shape(
        "Last curve falls below its beginning, ends above it, and stays above the others' lowest point",
        helps_then_harms,
        best_of_course,
        "lowest later {metric} of the last curve over its first",
        each=False,
        parts={"falls": helps, "ends above": harms, "stays above the others": stays_above},
    ),
}
