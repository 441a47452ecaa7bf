"""The line to paste is the intervention that was measured."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.tuning.paste import override_line, python_line
from skiptune.interventions import SkipTuning, TimeSchedule, Window
from skiptune.interventions.build import complete_settings, make_skip_tuning

LEVELS = [80.0, 9.72, 2.5, 0.002, 0.0]


@pytest.mark.parametrize(
    "settings",
    [
        {"rho_bottom": 0.05},
        {"rho_bottom": 0.15, "rho_top": 0.9, "place": "residual", "bottom_first": False},
        {"rho_bottom": 0.5, "time_direction": "increasing", "time_axis": "log_sigma"},
        {"rho_bottom": 0.5, "reading": "to_top", "time_direction": "decreasing", "sigma_low": 0.5},
        {"rho_bottom": 0.5, "sigma_high": 2.0},
    ],
)
def test_python_line_makes_what_was_measured(settings: dict[str, Any]) -> None:
    complete = complete_settings({"name": "skip_tuning", **settings})
    names = {"SkipTuning": SkipTuning, "TimeSchedule": TimeSchedule, "Window": Window}
    pasted, measured = eval(python_line(complete, LEVELS), names), make_skip_tuning(complete, LEVELS)
    assert (pasted.place, pasted.schedules) == (measured.place, measured.schedules)
    assert pasted.rho.keywords == measured.rho.keywords


def test_lines_of_the_plain_case() -> None:
    complete = complete_settings({"name": "skip_tuning", "rho_bottom": 0.05})
    assert python_line(complete, LEVELS) == "SkipTuning.interpolated(rho_bottom=0.05, rho_top=1.0)"
    wanted = "intervention=skip_tuning intervention.rho_bottom=0.05 intervention.rho_top=1.0"
    assert override_line(complete) == wanted


def test_overrides_name_what_differs_from_the_defaults() -> None:
    changed = {"rho_bottom": 0.4, "bottom_first": False, "time_direction": "increasing"}
    line = override_line(complete_settings({"name": "skip_tuning", **changed}))
    assert line.endswith("rho_top=1.0 intervention.bottom_first=false intervention.time_direction=increasing")
