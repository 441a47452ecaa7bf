"""Settings from plain values: a key that nothing reads, or a value of another type, is one clear line."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from skiptune.errors import SkiptuneError, did_you_mean

Settings = TypeVar("Settings")

WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a mapping",
    Mapping: "a mapping",
    NoneType: "null",
}


def check_types(values: Mapping[str, Any], declared: Any) -> None:
    """Refuse values of other types than ``declared``, a class or function, says; a whole number is a number.

    Types that no plain value has are not looked at.

    Raises:
        SkiptuneError: the first such value, by name.
    """
    hints = get_type_hints(declared)
    for name, value in values.items():
        kinds = plain_kinds(hints.get(name))
        if kinds and not any(fits(value, kind) for kind in kinds):
            wanted = " or ".join(WORDS[kind] for kind in kinds)
            raise SkiptuneError(f"{name} is {value!r}, it must be {wanted}")


def plain_kinds(hint: Any) -> list[Any]:
    """``int | None`` as ``[int, NoneType]``; nothing if one of them is no type of a plain value."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kinds = [get_origin(part) or part for part in parts]
    return kinds if all(kind in WORDS for kind in kinds) else []


def fits(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, int | float if kind is float else kind)


def known_settings(given: Mapping[str, Any], kind: type[Any], elsewhere: tuple[str, ...] = ()) -> None:
    """Refuse what is no setting of ``kind``, a dataclass, or comes from ``elsewhere``, and what is missing.

    Raises:
        SkiptuneError: the first such key.
    """
    fields = [field for field in dataclasses.fields(kind) if field.name not in elsewhere]
    names = [field.name for field in fields]
    for key in given:
        if key not in names:
            guess = did_you_mean(key, names) or f"; settings: {', '.join(names)}"
            raise SkiptuneError(f"there is no setting training.{key}{guess}")
    for field in fields:
        needed = field.default is field.default_factory is dataclasses.MISSING
        if needed and field.name not in given:
            raise SkiptuneError(f"training.{field.name} is missing; give it a value")
