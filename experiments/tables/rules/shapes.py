"""Shapes of curves (a metric against a setting) that claims speak of, as numbers with a bound on each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Curve = Sequence[tuple[float, float]]
"""Points (x, metric), x rising."""
Curves = Sequence[Curve]
"""In the order of the setting that tells them apart, rising."""

BOUNDS: Mapping[str, Callable[[float], bool]] = {
    "above 0": lambda effect: effect > 0,
    "at least 0": lambda effect: effect >= 0,
    "at most -0.9": lambda effect: effect <= -0.9 + 1e-9,  # a correlation, up to rounding
}


@dataclass(frozen=True)
class Part:
    """One number that a shape asks for.

    Attributes:
        effect: the number.
        named: what it is; ``{metric}``, ``{x}`` and ``{group}`` stand for those of a claim.
        claimed: a key of ``BOUNDS``.
    """

    effect: Callable[[Curves], float]
    named: str
    claimed: str = "above 0"

    def holds(self, curves: Curves) -> bool:
        return BOUNDS[self.claimed](self.effect(curves))


@dataclass(frozen=True)
class Shape:
    """A shape of curves.

    Attributes:
        what: the shape in words, with ``{metric}``, ``{x}`` and ``{group}`` as in ``Part``.
        parts: what it asks for, all of it.
        points: fewest points of a curve, of the last one if the shape relates curves.
        each: whether the shape is asked of every curve by itself, so that one curve can contradict it.
        besides: what is reported, and not asked for.
    """

    what: str
    parts: Mapping[str, Part]
    points: int = 2
    each: bool = True
    besides: Mapping[str, Part] | None = None

    def holds(self, curves: Curves) -> bool:
        return all(part.holds(curves) for part in self.parts.values())


def lowest(curve: Curve) -> float:
    """The x of the lowest point."""
    return min(curve, key=lambda point: point[1])[0]


def _values(curve: Curve) -> list[float]:
    return [value for _, value in curve]


def ends_above_inside(curves: Curves, ends: int = 1) -> float:
    """The lowest of the first and last ``ends`` points minus the lowest between; of all curves the least."""
    several = [_values(curve) for curve in curves]
    return min(min(values[:ends] + values[-ends:]) - min(values[ends:-ends]) for values in several)


def inside_above_ends(curves: Curves) -> float:
    """The highest value inside minus that at the higher end, on the curve where it is least."""
    several = [_values(curve) for curve in curves]
    return min(max(values[1:-1]) - max(values[0], values[-1]) for values in several)


def last_above_before(curves: Curves) -> float:
    """The value at the last x minus the lowest of the others, on the last curve."""
    *before, last = _values(curves[-1])
    return last - min(before)


def least_step(curves: Curves) -> float:
    """The x of the lowest point minus that of the curve before, where it is least."""
    return min(b - a for a, b in pairwise(lowest(curve) for curve in curves))


def shift(curves: Curves) -> float:
    """The x of the lowest point of the last curve minus that of the first."""
    return lowest(curves[-1]) - lowest(curves[0])


def least_lead(curves: Curves) -> float:
    """The least x of the lowest point of the other curves, minus that of the first."""
    first, *others = (lowest(curve) for curve in curves)
    return min(others) - first


def gain(curve: Curve) -> float:
    """(Value at the last x) / (lowest value): 1, exactly, where the last x is best."""
    return curve[-1][1] / min(_values(curve))


def least_fall_of_gain(curves: Curves) -> float:
    """The gain minus that of the next curve, where it is least."""
    return min(a - b for a, b in pairwise(gain(curve) for curve in curves))


def fall_of_gain(curves: Curves) -> float:
    """The gain of the first curve minus that of the last."""
    return gain(curves[0]) - gain(curves[-1])


def largest_correlation(curves: Curves) -> float:
    """Spearman's correlation of the value with x, on the curve where it is largest."""
    return max(correlation(curve) for curve in curves)


def correlation(curve: Curve) -> float:
    """Spearman's, of the value with x; 0 where all are equal. For so few points scipy's is slow."""
    x, y = (_centred_ranks(some) for some in zip(*curve, strict=True))
    scale = math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / scale if scale else 0.0


def _centred_ranks(values: Sequence[float]) -> list[float]:
    rising = sorted(values)
    return [rising.index(v) + (rising.count(v) - len(rising)) / 2 for v in values]


def help_of_course(curves: Curves) -> float:
    """The first value of the last curve minus its lowest later one."""
    first, *later = _values(curves[-1])
    return first - min(later)


def harm_of_course(curves: Curves) -> float:
    """The last value of the last curve minus its first."""
    return curves[-1][-1][1] - curves[-1][0][1]


def course_above_others(curves: Curves) -> float:
    """The lowest value of the last curve minus the lowest of the others."""
    *others, course = curves
    return min(_values(course)) - min(value for curve in others for value in _values(curve))


_NEVER_DOWN = Part(least_step, "best {x} minus that of the {group} before, where it is least", "at least 0")
_UP_IN_ALL = Part(shift, "best {x} at the largest {group} minus that at the smallest")

SHAPES = {
    "lowest_inside": Shape(
        "Lowest point of every curve inside of its ends",
        {
            "inside": Part(
                ends_above_inside,
                "{metric} at the better end of {x} minus the lowest inside, on the curve where that is least",
            )
        },
        points=3,
    ),
    "lowest_in_the_middle": Shape(
        "Lowest point not among the three at either end",
        {
            "in the middle": Part(
                lambda curves: ends_above_inside(curves, 3),
                "lowest {metric} of the three points at either end of {x} minus the lowest between",
            )
        },
        points=7,
    ),
    "best_rises": Shape(
        "Lowest point moves up from curve to curve and stays below the last {x}",
        {
            "never moves down": _NEVER_DOWN,
            "moves up in all": _UP_IN_ALL,
            "stays below": Part(
                last_above_before,
                "{metric} at the last {x} minus the lowest before it, at the largest {group}",
            ),
        },
        each=False,
    ),
    "best_never_falls": Shape(
        "Lowest point never moves down from curve to curve",
        {"never moves down": _NEVER_DOWN},
        each=False,
        besides={"moves up in all": _UP_IN_ALL},
    ),
    "best_above_first": Shape(
        "Lowest point of every other curve above the first one's",
        {"above": Part(least_lead, "least best {x} of the other curves minus that of the first")},
        each=False,
    ),
    "gain_falls": Shape(
        "Gain ({metric} at the last {x} over the lowest) never rises from curve to curve, and falls in all",
        {
            "never rises": Part(
                least_fall_of_gain,
                "gain ({metric} at the last {x} over the lowest) minus that of the next {group}, the least",
                "at least 0",
            ),
            "falls in all": Part(
                fall_of_gain,
                "gain ({metric} at the last {x} over the lowest), smallest {group} minus largest",
            ),
        },
        each=False,
    ),
    "rises_as_x_falls": Shape(
        "Spearman correlation with {x} at most -0.9",
        {
            "correlated": Part(
                largest_correlation, "largest correlation of {metric} with {x} on a curve", "at most -0.9"
            )
        },
    ),
    "highest_inside": Shape(
        "Highest value not at an end",
        {
            "inside": Part(
                inside_above_ends,
                "highest {metric} inside minus that at the higher end of {x}, on the curve where it is least",
            )
        },
        points=3,
    ),
    "helps_then_harms": Shape(
        "Last curve falls below its beginning, ends above it, and stays above the others' lowest point",
        {
            "falls": Part(help_of_course, "{metric} at the beginning minus the lowest later"),
            "ends above": Part(harm_of_course, "{metric} at the end minus that at the beginning"),
            "stays above the others": Part(
                course_above_others, "lowest {metric} of the last curve minus the lowest of the others"
            ),
        },
        each=False,
    ),
}
