"""A condition in words: what tells its sampler and its intervention apart from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skiptune.interventions.build import INTERVENTIONS
from skiptune.runtime.generation import without_infinity
from skiptune.samplers import known_settings

DEFAULTS = INTERVENTIONS["skip_tuning"].defaults
RHO = ("rho_bottom", "rho_top")


def override_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """A condition under the names of overrides: parts, steps, rho, what differs from the defaults.

    The library's defaults, which are those of configs/sampler.

    Args:
        settings: of its sampling run, complete, as a run record has them (``SamplingSettings.resolved``).

    Raises:
        SkiptuneError: an unknown sampler.
    """
    sampler = settings["sampler"]
    defaults = without_infinity(known_settings(sampler["name"]))
    return {
        "model": settings["model"]["name"],
        "sampler": sampler["name"],
        **{f"sampler.{name}": value for name, value in telling(sampler, defaults).items()},
        **intervention_words(settings["intervention"]),
        **{name: word(settings[name]) for name in ("precision", "compile") if name in settings},
    }


def intervention_words(settings: Mapping[str, Any]) -> dict[str, str]:
    """The part of an intervention, with complete settings."""
    found = telling(settings, INTERVENTIONS[settings["name"]].defaults)
    return {
        "intervention": settings["name"],
        **{f"intervention.{name}": value for name, value in found.items()},
    }


def telling(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, str]:
    """Of complete settings rho, and what differs from the defaults; in their order."""
    return {
        name: word(settings[name])
        for name in defaults
        if name in settings and (name in RHO or settings[name] != defaults[name])
    }


def word(value: Any) -> str:
    return str(value).lower() if type(value) is bool else str(value).replace(" ", "")


def condition_name(settings: Mapping[str, Any]) -> str:
    """The same as a name, which tells the conditions of a sweep apart."""
    named = ("model", "sampler", "intervention")
    words = override_words(settings).items()
    return " ".join(value if key in named else f"{key.split('.')[-1]}={value}" for key, value in words)


def rho_of(intervention: Mapping[str, Any]) -> dict[str, float]:
    """Both ends of Skip-Tuning's rho, which are 1 without an intervention; nothing for another one."""
    if intervention["name"] not in ("none", "skip_tuning"):
        return {}
    return {name: intervention.get(name, DEFAULTS[name]) for name in RHO}
