"""Logarithmic axes whose ticks say 20 and 500, not 2 x 10^1."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator

MANY = 8  # ticks that fit side by side


def logarithmic(axis: XAxis | YAxis, at: Iterable[float] = ()) -> None:
    """Make an axis logarithmic once all is drawn, with ticks at the values ``at`` if these are few."""
    axis.axes.set(**{"yscale" if isinstance(axis, YAxis) else "xscale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(locator(high / low, sorted(set(at))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def locator(ratio: float, at: list[float]) -> Locator:
    """Where the ticks of an axis are that ends at ``ratio`` times its beginning."""
    if 0 < len(at) <= MANY:
        return FixedLocator(at)
    if ratio < 10:
        return MaxNLocator(5)
    return LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 1000 else (1.0,))
