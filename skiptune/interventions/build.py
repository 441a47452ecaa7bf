"""An intervention from plain settings, as a run record stores them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

Settings = Mapping[str, Any]
Attached = contextlib.AbstractContextManager[object]


@dataclass(frozen=True)
class Intervention:
    """What an intervention's name stands for.

    Attributes:
        defaults: of every setting; complete settings name a stored run.
        complete: brings the values into one form, in place. Raises SkiptuneError: one out of its range.
        neutral: whether complete settings leave every network as it is, bit for bit.
        attach: of complete settings, a network and the sampler's noise levels, as ``attach_intervention``.
    """

    defaults: Settings
    complete: Callable[[dict[str, Any]], object]
    neutral: Callable[[Settings], bool]
    attach: Callable[[Settings, nn.Module, Sequence[float]], Attached]


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with every default written out; checks names and ranges.

    Raises:
        SkiptuneError: unknown intervention or setting, a value out of its range.
    """
    given = dict(settings)
    name = given.pop("name", None)
    if name not in INTERVENTIONS:
        raise SkiptuneError(f"unknown intervention {name!r}; choose one of {', '.join(INTERVENTIONS)}")
    defaults = INTERVENTIONS[name].defaults
    if unknown := set(given) - set(defaults):
        known = ", ".join(defaults) or "none"
        raise SkiptuneError(
            f"intervention {name} has no setting {', '.join(sorted(unknown))}; it has {known}"
        )
    complete = {"name": name, **defaults, **given}
    INTERVENTIONS[name].complete(complete)
    return complete


def is_neutral(complete: Mapping[str, Any]) -> bool:
    """Whether an intervention with these complete settings leaves every network as it is, bit for bit."""
    return INTERVENTIONS[complete["name"]].neutral(complete)


def attach_intervention(
    settings: Mapping[str, Any], denoiser: nn.Module, levels: Sequence[float]
) -> Attached:
    """Attach the intervention that ``settings`` (``{"name": ..., ...}``) describe; a context manager.

    ``levels`` are the sampler's noise levels with the one it ends at, which values by step need.
    """
    settings = complete_settings(settings)
    return INTERVENTIONS[settings["name"]].attach(settings, denoiser, levels)


def as_float(name: str, value: Any) -> float | None:
    """A number as float; ``None`` stays."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise SkiptuneError(f"{name} is {value!r}, it must be a number")
    return None if value is None else float(value)


def as_floats(settings: dict[str, Any], *names: str) -> None:
    """The settings of these names as floats, in place: 1 and 1.0 name the same run."""
    for name in names:
        settings[name] = as_float(name, settings[name])


def make_freeu(settings: Mapping[str, Any]) -> FreeU:
    """FreeU from complete settings."""
    return FreeU(**{key: value for key, value in settings.items() if key != "name"})


def complete_freeu(settings: dict[str, Any]) -> None:
    as_floats(settings, "b1", "b2", "s1", "s2")
    make_freeu(settings)


def make_epsilon_scaling(settings: Mapping[str, Any]) -> EpsilonScaling:
    """Epsilon scaling from complete settings; the reading is checked also where no skip makes use of it."""
    reading = {key: settings[key] for key in ("tau", "weights", "alpha", "early", "factor")}
    skip = settings["skip"]
    skip_step = SkipStep(1 if skip is None else skip, **reading)
    return EpsilonScaling(settings["scale"], None if skip is None else skip_step)


def complete_epsilon_scaling(settings: dict[str, Any]) -> None:
    as_floats(settings, "scale", "tau")
    make_epsilon_scaling(settings)


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


def complete_skip_tuning(settings: dict[str, Any]) -> None:
    as_floats(settings, "rho_bottom", "rho_top", "sigma_low", "sigma_high")
    if settings["time_axis"] not in AXES:  # also where no time direction makes use of it
        raise SkiptuneError(f"unknown time axis {settings['time_axis']!r}; choose one of {', '.join(AXES)}")
    make_skip_tuning(settings, (2.0, 1.0))


def complete_skip_coefficients(settings: dict[str, Any]) -> None:
    rho = settings["rho"]
    if rho is None:
        return
    if not isinstance(rho, Sequence) or isinstance(rho, str):
        raise SkiptuneError(f"rho is {rho!r}, it must be a list with a number for every site")
    settings["rho"] = [as_float("rho", value) for value in rho]
    SkipTuning(tuple(settings["rho"]))


def attach_skip_coefficients(settings: Settings, network: nn.Module, levels: Sequence[float]) -> Attached:
    if settings["rho"] is None:
        return contextlib.nullcontext()
    return SkipTuning(tuple(settings["rho"])).attached_to(network)


def complete_block_reweighting(settings: dict[str, Any]) -> None:
    settings["weights"] = by_step("weights", settings["weights"], block_weight)
    make_block_reweighting(settings, [0.0] * len(settings["weights"] or [0]))


def attach_block_reweighting(settings: Settings, network: nn.Module, levels: Sequence[float]) -> Attached:
    if is_neutral(settings):  # also of a network without transformer blocks
        return contextlib.nullcontext()
    return make_block_reweighting(settings, levels[:-1]).attached_to(network)


def complete_attention_pruning(settings: dict[str, Any]) -> None:
    settings["blocks"] = by_step("blocks", settings["blocks"], block_number)


def attach_attention_pruning(settings: Settings, network: nn.Module, levels: Sequence[float]) -> Attached:
    if is_neutral(settings):
        return contextlib.nullcontext()
    return make_attention_pruning(settings, levels[:-1], network).attached_to(network)


INTERVENTIONS: dict[str, Intervention] = {
    "none": Intervention(
        {},
        complete=lambda settings: None,
        neutral=lambda settings: True,
        attach=lambda settings, network, levels: contextlib.nullcontext(),
    ),
    "skip_tuning": Intervention(
        {
            "rho_bottom": 1.0, "rho_top": 1.0, "reading": "inclusive", "bottom_first": True, "place": "input",
            "time_direction": None, "time_axis": "step", "sigma_low": None, "sigma_high": None,
        },
        complete_skip_tuning,
        neutral=lambda settings: bool(settings["rho_bottom"] == settings["rho_top"] == 1),
        attach=lambda settings, network, levels: make_skip_tuning(settings, levels).attached_to(network),
    ),
    "skip_coefficients": Intervention(
        {"rho": None},
        complete_skip_coefficients,
        neutral=lambda settings: settings["rho"] is None or set(settings["rho"]) == {1},
        attach=attach_skip_coefficients,
    ),
    "freeu": Intervention(
        {"b1": 1.0, "b2": 1.0, "s1": 1.0, "s2": 1.0, "variant": "constant", "by": "stage"},
        complete_freeu,
        neutral=lambda settings: make_freeu(settings).factors == ((1, 1), (1, 1)),
        attach=lambda settings, network, levels: make_freeu(settings).attached_to(network),
    ),
    "epsilon_scaling": Intervention(
        {
            "scale": 1.0, "skip": None, "tau": 0.99, "weights": "eq13", "alpha": "per_step",
            "early": "truncate", "factor": "eq12",
        },
        complete_epsilon_scaling,
        neutral=lambda settings: make_epsilon_scaling(settings).neutral,
        attach=lambda settings, network, levels: make_epsilon_scaling(settings).attached_to(network),
    ),
    "block_reweighting": Intervention(
        {"weights": None, "part": "output"},
        complete_block_reweighting,
        neutral=lambda settings: {weight for step in settings["weights"] or () for weight in step} <= {1},
        attach=attach_block_reweighting,
    ),
    "attention_pruning": Intervention(
        {"blocks": None},
        complete_attention_pruning,
        neutral=lambda settings: not any(settings["blocks"] or ()),
        attach=attach_attention_pruning,
    ),
}  # fmt: skip
