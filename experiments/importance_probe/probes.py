"""The constants of the Importance Probe from ``configs/probe``, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.scale import Scale, named
from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError
from skiptune.importance import ProbeSettings, ThresholdRule


def probe_settings(scale: Scale, name: str | None = None) -> ProbeSettings:
    """Those of the scale's probe, or of another.

    Raises:
        SkiptuneError: an unknown probe, an unknown constant, a value that it cannot have.
    """
    name = scale.probe if name is None else name
    config = dict(named(name, scale.probes, "probe"))
    rule = config.pop("thresholds", {})
    try:
        return ProbeSettings(**tuples(config), thresholds=ThresholdRule(**tuples(rule)))
    except TypeError as error:
        raise SkiptuneError(f"probes.{name}: {error}") from error


def own_probe(section: Section) -> str | None:
    """The probe that a measurement names, if it names one."""
    found: str | None = section.optional("probe", str, None)
    return found


def tuples(value: Any) -> Any:
    """Lists as tuples."""
    if isinstance(value, Mapping):
        return {key: tuples(inner) for key, inner in value.items()}
    return tuple(tuples(inner) for inner in value) if isinstance(value, list | tuple) else value
