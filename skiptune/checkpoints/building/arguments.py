"""Whether two descriptions mean the same network, where one may leave out what is the default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from skiptune.denoisers.adm import DhariwalUNet
from skiptune.denoisers.edm2 import Block, EDM2UNet
from skiptune.denoisers.guided import GuidedUNet
from skiptune.denoisers.registry import DENOISERS, NETWORKS
from skiptune.denoisers.song import SongUNet

MISSING = object()
# Classes that the arguments of a denoiser go on to.
INSIDE: dict[Any, tuple[Callable[..., Any], ...]] = {
    "DhariwalUNet": (DhariwalUNet,),
    "SongUNet": (SongUNet,),
    "EDM2Precond": (Block, EDM2UNet),
    "ConsistencyDenoiser": (GuidedUNet,),
}
# They change the training alone, or how fast the same numbers are computed.
IRRELEVANT = {"dropout", "label_dropout", "use_checkpoint", "use_fp16"}


def contradiction(of_file: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """One line on the first class or argument that differs; empty if none does.

    Wrappers (guidance, autoencoder) may differ: they are choices, not properties of the network.
    """
    if of_file.get("class") != given.get("class"):
        return f"holds {of_file.get('class')}, the description says {given.get('class')}"
    defaults = defaults_of(of_file)
    ours, theirs = of_file.get("kwargs", {}), given.get("kwargs", {})
    for name in {**ours, **theirs}:
        one, other = (kwargs.get(name, defaults.get(name, MISSING)) for kwargs in (ours, theirs))
        if name in IRRELEVANT or MISSING in (one, other):
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping) and "class" in one:
            if line := contradiction(one, other):
                return line
        elif normal(name, one) != normal(name, other):
            return f"was made with {name} = {one!r}, the description says {other!r}"
    return ""


def defaults_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """Default values of the arguments, those of the inner network included."""
    name = description.get("class")
    outer = {**DENOISERS, **NETWORKS}.get(str(name))
    found = defaults(outer) if outer else {}
    model_type = description.get("kwargs", {}).get("model_type", found.get("model_type"))
    for cls in INSIDE.get(model_type or name, ()):
        found = {**defaults(cls), **found}
    return found


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def normal(name: str, value: Any) -> Any:
    """Lists and tuples are the same, and the order of attention's resolutions does not matter."""
    if isinstance(value, Mapping):
        return {key: normal(key, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [normal("", item) for item in value]
        return sorted(items) if name.startswith("att") else items
    return value
