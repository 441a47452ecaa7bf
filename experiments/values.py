"""A measured number as tables and records hold it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """A metric with its 95% interval.

    `n` is the number of seed blocks behind the interval, `seeds` the first and last seed of each block, both
    included. Without a second block there is no interval: low and high are None.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    seeds: tuple[tuple[int, int], ...]

    @property
    def images(self) -> int:
        """Images behind the value."""
        return sum(last - first + 1 for first, last in self.seeds)
