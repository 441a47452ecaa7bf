"""What is tuned: the values to choose from of every setting of Skip-Tuning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.interventions.build import complete_settings

TUNABLE = ("rho_bottom", "rho_top", "time_direction")

Choice = float | str | None
Point = tuple[int, ...]
"""One index per setting, in the order of the space."""


@dataclass(frozen=True)
class Space:
    """Setting -> the values to choose from, in order; a setting with one value is fixed.

    Raises:
        SkiptuneError: an unknown setting, no or repeated values, one that Skip-Tuning does not take, nothing
            left to choose.
    """

    choices: Mapping[str, tuple[Choice, ...]]

    def __post_init__(self) -> None:
        for name, values in self.choices.items():
            if name not in TUNABLE:
                raise SkiptuneError(f"space.{name} cannot be tuned; there are {', '.join(TUNABLE)}")
            if not values or len(set(values)) < len(values):
                raise SkiptuneError(f"space.{name} is {list(values)}: give at least one value, each once")
            for value in values:
                complete_settings({"name": "skip_tuning", name: value})
        if not self.free:
            raise SkiptuneError("every setting of the space is fixed: leave one with several values")

    @classmethod
    def of(cls, config: Any) -> Space:
        """From setting -> ``{low, high, step}``, a list of values, or one value that is fixed."""
        if not isinstance(config, Mapping):
            raise SkiptuneError(f"space is {config!r}; give settings, of {', '.join(TUNABLE)}")
        return cls({name: values_of(name, wanted) for name, wanted in config.items()})

    @property
    def free(self) -> tuple[str, ...]:
        """The settings with several values."""
        return tuple(name for name, values in self.choices.items() if len(values) > 1)

    @property
    def size(self) -> int:
        """Points of the exhaustive grid."""
        return math.prod(len(values) for values in self.choices.values())

    def points(self) -> Iterator[Point]:
        """The exhaustive grid."""
        return product(*(range(len(values)) for values in self.choices.values()))

    def edges(self, settings: Mapping[str, Choice]) -> tuple[str, ...]:
        """The free numbers at the lowest or highest value to choose; rho = 1 is no edge, it is untouched."""
        found = []
        for name in self.free:
            numbers = [value for value in self.choices[name] if isinstance(value, float)]
            value = settings[name]
            if numbers and value != 1 and value in (min(numbers), max(numbers)):
                found.append(name)
        return tuple(found)

    def at(self, point: Point) -> dict[str, Choice]:
        """The settings at a point."""
        return {name: values[i] for (name, values), i in zip(self.choices.items(), point, strict=True)}


def values_of(name: str, wanted: Any) -> tuple[Choice, ...]:
    """The values that a configuration means. Raises SkiptuneError for a range that is none."""
    if isinstance(wanted, Mapping):
        numbers = all(type(value) in (int, float) for value in wanted.values())
        if set(wanted) != {"low", "high", "step"} or not numbers:
            raise SkiptuneError(f"space.{name} is {dict(wanted)}: a range is {{low, high, step}} in numbers")
        low, high, step = (float(wanted[key]) for key in ("low", "high", "step"))
        if step <= 0 or high < low:
            raise SkiptuneError(f"space.{name} is {dict(wanted)}: step must be positive, low at most high")
        # Decimals as a user writes them: 0.15, not 0.15000000000000002, name the run.
        return tuple(round(low + i * step, 10) for i in range(math.floor((high - low) / step + 1e-9) + 1))
    values = wanted if isinstance(wanted, list) else [wanted]
    return tuple(float(value) if type(value) is int else value for value in values)
