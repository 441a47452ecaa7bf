"""An intervention from plain settings, as a run record stores them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.block_settings import (
    block_number,
    block_weight,
    by_step,
    make_attention_pruning,
    make_block_reweighting,
)
from skiptune.interventions.coefficients import AXES, TimeSchedule, Window
from skiptune.interventions.epsilon_scaling import EpsilonScaling
from skiptune.interventions.freeu import FreeU
from skiptune.interventions.skip_tuning import SkipTuning
from skiptune.skip_step import SkipStep

SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "skip_tuning": {
        "rho_bottom": 1.0, "rho_top": 1.0, "reading": "inclusive", "bottom_first": True, "place": "input",
        "time_direction": None, "time_axis": "step", "sigma_low": None, "sigma_high": None,
    },
    "skip_coefficients": {"rho": None},
    "freeu": {"b1": 1.0, "b2": 1.0, "s1": 1.0, "s2": 1.0, "variant": "constant", "by": "stage"},
    "epsilon_scaling": {
        "scale": 1.0, "skip": None, "tau": 0.99, "weights": "eq13", "alpha": "per_step", "early": "truncate",
        "factor": "eq12",
    },
    "block_reweighting": {"weights": None, "part": "output"},
    "attention_pruning": {"blocks": None},
}  # fmt: skip


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with every default written out; checks names and ranges.

    Raises:
        SkiptuneError: unknown intervention or setting, a value out of its range.
    """
    given = dict(settings)
    name = given.pop("name", None)
    if name not in SETTINGS:
        raise SkiptuneError(f"unknown intervention {name!r}; choose one of {', '.join(SETTINGS)}")
    if unknown := set(given) - set(SETTINGS[name]):
        known = ", ".join(SETTINGS[name]) or "none"
        raise SkiptuneError(
            f"intervention {name} has no setting {', '.join(sorted(unknown))}; it has {known}"
        )
    complete = {"name": name, **SETTINGS[name], **given}
    if name == "skip_tuning":
        for key in ("rho_bottom", "rho_top", "sigma_low", "sigma_high"):
            complete[key] = as_float(key, complete[key])  # 1 and 1.0 name the same run
        if complete["time_axis"] not in AXES:  # also where no time direction makes use of it
            raise SkiptuneError(
                f"unknown time axis {complete['time_axis']!r}; choose one of {', '.join(AXES)}"
            )
        make_skip_tuning(complete, (2.0, 1.0))
    if name == "skip_coefficients" and complete["rho"] is not None:
        if not isinstance(complete["rho"], Sequence) or isinstance(complete["rho"], str):
            raise SkiptuneError(f"rho is {complete['rho']!r}, it must be a list with a number for every site")
        complete["rho"] = [as_float("rho", value) for value in complete["rho"]]
        SkipTuning(tuple(complete["rho"]))
    if name == "freeu":
        for key in ("b1", "b2", "s1", "s2"):
            complete[key] = as_float(key, complete[key])
        make_freeu(complete)
    if name == "epsilon_scaling":
        for key in ("scale", "tau"):
            complete[key] = as_float(key, complete[key])
        make_epsilon_scaling(complete)
    if name == "block_reweighting":
        complete["weights"] = by_step("weights", complete["weights"], block_weight)
        make_block_reweighting(complete, [0.0] * len(complete["weights"] or [0]))
    if name == "attention_pruning":
        complete["blocks"] = by_step("blocks", complete["blocks"], block_number)
    return complete


def is_neutral(complete: Mapping[str, Any]) -> bool:
    """Whether an intervention with these complete settings leaves every network as it is, bit for bit."""
    if complete["name"] == "skip_tuning":
        return bool(complete["rho_bottom"] == complete["rho_top"] == 1)
    if complete["name"] == "skip_coefficients":
        return complete["rho"] is None or set(complete["rho"]) == {1}
    if complete["name"] == "freeu":
        return make_freeu(complete).factors == ((1, 1), (1, 1))
    if complete["name"] == "epsilon_scaling":
        return make_epsilon_scaling(complete).neutral
    if complete["name"] == "block_reweighting":
        return {weight for step in complete["weights"] or () for weight in step} <= {1}
    if complete["name"] == "attention_pruning":
        return not any(complete["blocks"] or ())
    return True


def as_float(name: str, value: Any) -> float | None:
    """A number as float; ``None`` stays."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise SkiptuneError(f"{name} is {value!r}, it must be a number")
    return None if value is None else float(value)


def make_freeu(settings: Mapping[str, Any]) -> FreeU:
    """FreeU from complete settings."""
    return FreeU(**{key: settings[key] for key in SETTINGS["freeu"]})


def make_epsilon_scaling(settings: Mapping[str, Any]) -> EpsilonScaling:
    """Epsilon scaling from complete settings; the reading is checked also where no skip makes use of it."""
    reading = {key: settings[key] for key in ("tau", "weights", "alpha", "early", "factor")}
    skip = settings["skip"]
    skip_step = SkipStep(1 if skip is None else skip, **reading)
    return EpsilonScaling(settings["scale"], None if skip is None else skip_step)


def make_skip_tuning(settings: Mapping[str, Any], levels: Sequence[float]) -> SkipTuning:
    """Skip-Tuning from complete settings, for a sampler's noise levels."""
    schedules: list[TimeSchedule | Window] = []
    if settings["time_direction"] is not None:
        positive = tuple(float(level) for level in levels if level > 0)
        schedules.append(TimeSchedule(settings["time_direction"], positive, settings["time_axis"]))
    if settings["sigma_low"] is not None or settings["sigma_high"] is not None:
        low, high = settings["sigma_low"], settings["sigma_high"]
        schedules.append(Window(0.0 if low is None else low, float("inf") if high is None else high))
    return SkipTuning.interpolated(
        settings["rho_bottom"],
        settings["rho_top"],
        settings["reading"],
        settings["bottom_first"],
        settings["place"],
        tuple(schedules),
    )


def attach_intervention(
    settings: Mapping[str, Any], denoiser: nn.Module, levels: Sequence[float]
) -> contextlib.AbstractContextManager[object]:
    """Attach the intervention that ``settings`` (``{"name": ..., ...}``) describe; a context manager.

    ``levels`` are the sampler's noise levels with the one it ends at, which values by step need.
    """
    settings = complete_settings(settings)
    if settings["name"] == "none":
        return contextlib.nullcontext()
    if settings["name"] == "freeu":
        return make_freeu(settings).attached_to(denoiser)
    if settings["name"] == "skip_coefficients":
        if settings["rho"] is None:
            return contextlib.nullcontext()
        return SkipTuning(tuple(settings["rho"])).attached_to(denoiser)
    if settings["name"] == "epsilon_scaling":
        return make_epsilon_scaling(settings).attached_to(denoiser)
    if settings["name"] in ("block_reweighting", "attention_pruning"):
        if is_neutral(settings):
            return contextlib.nullcontext()
        if settings["name"] == "block_reweighting":
            return make_block_reweighting(settings, levels[:-1]).attached_to(denoiser)
        return make_attention_pruning(settings, levels[:-1], denoiser).attached_to(denoiser)
    return make_skip_tuning(settings, levels).attached_to(denoiser)
