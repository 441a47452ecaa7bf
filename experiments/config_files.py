"""The choices of a group of ``configs`` as plain values, for what names them, as a role does its model.

Hydra would compose each of them again in every job, which takes longer than a table whose runs are there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from skiptune.errors import SkiptuneError, did_you_mean

Config = Mapping[str, Any]

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's fastest loader, for which, as for Hydra, 1e-3 and 1.5e3 are numbers and a date is a text."""


FLOAT, DATE = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != DATE]
    for first, known in Loader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(FLOAT, re.compile(r"[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$"), [*"-+0123456789"])


def choice_names(group: str) -> list[str]:
    """The choices of a group."""
    folder = CONFIGS / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def choices(group: str) -> dict[str, Config]:
    """All choices of a group by name. Raises SkiptuneError as ``choice``."""
    return {name: choice(group, name) for name in choice_names(group)}


@functools.cache
def choice(group: str, name: str) -> Config:
    """``configs/<group>/<name>.yaml`` over those that its defaults list names, as Hydra composes it.

    Raises:
        SkiptuneError: there is none of that name, it is no mapping, its defaults name anything but other
            files of the group, or it has an interpolation (``${...}``), which nothing here resolves.
    """
    known = choice_names(group)
    if name not in known:
        guess = did_you_mean(name, known) or f"; there are {', '.join(known)}"
        raise SkiptuneError(f"there is no {group} {name!r} in configs/{group}{guess}")
    own = read_yaml(path := CONFIGS / group / f"{name}.yaml")
    if "${" in str(own):
        raise SkiptuneError(f"{path}: write the value itself in place of ${{...}}")
    bases = own.pop("defaults", [])
    if not isinstance(bases, list) or any(not isinstance(base, str) or base == name for base in bases):
        raise SkiptuneError(f"{path}: defaults must name other files of configs/{group}")
    found: Config = {}
    for base in bases if "_self_" in bases else [*bases, "_self_"]:
        found = merged(found, own if base == "_self_" else choice(group, base))
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """The values of a file. Raises SkiptuneError if it is no YAML, or no mapping."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.YAMLError as error:
        raise SkiptuneError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise SkiptuneError(f"{path}: expected a mapping, found {found}")
    return values


def merged(base: Config, over: Config) -> dict[str, Any]:
    """``base`` with the values of ``over``, inside of mappings too."""
    inner = {
        key: merged(base[key], value)
        for key, value in over.items()
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **over, **inner}
