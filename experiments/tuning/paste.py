"""What was found as a line of Python and as overrides of the configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.wording import DEFAULTS, RHO, intervention_words


def python_line(settings: Mapping[str, Any], levels: Sequence[float]) -> str:
    """Complete settings of Skip-Tuning (``complete_settings``) as an expression.

    ``levels``: the sampler's noise levels, which a schedule in time is written out with.
    """
    arguments = [
        f"{name}={settings[name]!r}"
        for name in (*RHO, "reading", "bottom_first", "place")
        if name in RHO or settings[name] != DEFAULTS[name]
    ]
    schedules = []
    if settings["time_direction"] is not None:
        positive = tuple(float(level) for level in levels if level > 0)
        axis = settings["time_axis"]
        schedules.append(f"TimeSchedule({settings['time_direction']!r}, {positive!r}, {axis!r})")
    low, high = settings["sigma_low"], settings["sigma_high"]
    if low is not None or high is not None:
        ends = (0.0 if low is None else low, "float('inf')" if high is None else high)
        schedules.append(f"Window({ends[0]}, {ends[1]})")
    if schedules:
        arguments.append(f"schedules=({', '.join(schedules)},)")
    return f"SkipTuning.interpolated({', '.join(arguments)})"


def override_line(settings: Mapping[str, Any]) -> str:
    """The same for ``scripts/measure.py``: rho, and what differs from the defaults."""
    return " ".join(f"{name}={value}" for name, value in intervention_words(settings).items())
