"""What is said about a command line that is wrong: Hydra's pages in short, and keys that nothing reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from experiments.config_files import choices, read_yaml
from skiptune.errors import SkiptuneError, did_you_mean

PLACES = ("outputs", "results", "checkpoints", "export", "data")  # settings that name a folder
# Settings whose files may leave keys out, which are then given with a +.
CHECKED = ("sampler", "intervention", "training", "model")
CLOSED = ("scale", "tracker")  # groups whose files name all that there is
OPEN = ("roles", "files", "space")  # which have keys of their own, or need not have all


def explained(error: object) -> str:
    """One line. Of Hydra's pages only what is wrong and what can be chosen is kept, and not its advice to
    append a key that is unknown with ``+``, where nothing would read it."""
    text = str(error).split("Config search path:")[0]
    cause = error.__cause__ if isinstance(error, HydraException) else None
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.full_key:
        parent, appended = cause.parent_node, text.partition("config use ")[2]
        known = [str(key) for key in parent if key != "hydra"] if isinstance(parent, DictConfig) else []
        text = unknown_key(cause.full_key, known, appended)
    elif "To append to your default list" in text:
        group = text.split("'")[1]
        text = f"there is no {group} to choose in this command"
    elif isinstance(cause, OmegaConfBaseException):
        text = f"{text}: {str(cause).splitlines()[0]}"
    return " ".join(text.split())


def unknown_key(key: str, known: Sequence[str], appended: str = "") -> str:
    """That there is no such setting among the ``known`` of its place, and what may be meant.

    ``appended``: how Hydra takes a key that the file of its group leaves out, such as ``sampler.S_churn``.
    """
    place, dot, name = key.rpartition(".")
    if guess := did_you_mean(name, known, place + dot):
        return f"there is no setting {key!r}{guess}"
    text = f"there is no setting {key!r}" + (f"; settings: {', '.join(known)}" if known else "")
    if appended and place.split(".")[0] in CHECKED:
        text += f"; one that the file leaves out is given as {appended}"
    return text


def check_keys(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse what was appended to the configuration of ``path``, where nothing would read it, or taken out.

    What is inside of a model, a sampler and the like is for the library to check.

    Raises:
        SkiptuneError: the first such key.
    """
    file = read_yaml(path)
    defaults = {
        key: value for each in file["defaults"] if isinstance(each, dict) for key, value in each.items()
    }
    chosen = {key: value for key, value in defaults.items() if not key.startswith("override ")}
    places = {key.rpartition("@")[2].split(".")[0]: value for key, value in chosen.items()}
    own = {key: value for key, value in file.items() if key not in ("defaults", "hydra")}
    if unknown := [key for key in config if key not in places and key not in own]:
        raise SkiptuneError(unknown_key(str(unknown[0]), [*places, *own]))
    if missing := [key for key in [*places, *own] if key not in config and places.get(key, key)]:
        raise SkiptuneError(
            f"there is no {missing[0]}, which is needed: leave ~{missing[0]} or {missing[0]}=null out"
        )
    for key, value in own.items():
        if key not in OPEN:
            _check_inside(key, [value], config[key])
    for group in CLOSED:
        if group in config:
            _check_inside(group, list(choices(group).values()), config[group])


def _check_inside(place: str, known: Sequence[Any], given: Any) -> None:
    """``given`` has keys that one of the ``known`` has, and those that all of them have, and so on inside."""
    if not isinstance(given, Mapping) or not all(isinstance(each, Mapping) for each in known):
        return  # of another type: for the library
    keys = list(dict.fromkeys(key for each in known for key in each))
    for key in given:
        if key not in keys:
            raise SkiptuneError(unknown_key(f"{place}.{key}", keys))
        if key not in OPEN:
            _check_inside(f"{place}.{key}", [each[key] for each in known if key in each], given[key])
    for key in keys:
        if key not in given and all(key in each for each in known):
            raise SkiptuneError(f"there is no {place}.{key}, which is needed: leave ~{place}.{key} out")


def check_places(values: Mapping[str, Any]) -> None:
    """Raises SkiptuneError for a folder that is none: ``checkpoints=null`` is no folder called None."""
    for key in PLACES:
        value = values.get(key, key)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            raise SkiptuneError(f"{key} is {value!r}: use a path")
