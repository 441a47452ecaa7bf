"""What is said about a command line that is wrong: Hydra's pages in short, and keys that nothing reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from skiptune.errors import SkiptuneError, did_you_mean

PLACES = ("outputs", "results", "checkpoints", "export", "data")  # settings that name a folder
# Settings whose files may leave keys out, which are then given with a +.
CHECKED = ("sampler", "samplers", "intervention", "training", "model")


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
    """Refuse what was appended to the configuration of ``path`` beside its keys: nothing would read it.

    What is inside of a key is for the library to check.

    Raises:
        SkiptuneError: the first such key.
    """
    file = yaml.safe_load(path.read_text(encoding="utf-8"))
    choices = [str(key) for entry in file["defaults"] if isinstance(entry, dict) for key in entry]
    places = [key.rpartition("@")[2].split(".")[0] for key in choices if not key.startswith("override ")]
    known = list(dict.fromkeys([*places, *(key for key in file if key not in ("defaults", "hydra"))]))
    for key in config:
        if key not in known:
            raise SkiptuneError(unknown_key(str(key), known))


def check_places(values: Mapping[str, Any]) -> None:
    """Raises SkiptuneError for a folder that is none: ``checkpoints=null`` is no folder called None."""
    for key in PLACES:
        value = values.get(key, key)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            raise SkiptuneError(f"{key} is {value!r}: use a path")
