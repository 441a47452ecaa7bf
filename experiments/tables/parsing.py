"""Reads a plain mapping key by key; a missing, unknown or wrongly typed key becomes one clear line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skiptune.errors import SkiptuneError


class Section:
    """One mapping of a table file. `where` names it in errors; `finish` refuses the keys that nobody took."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, Mapping):
            raise SkiptuneError(f"{where}: expected a mapping, found {_kind(data)}")
        self.data, self.where = dict(data), where
        self._taken: set[str] = set()

    def take(self, key: str, kind: type) -> Any:
        """The value of a required key."""
        if key not in self.data:
            raise SkiptuneError(f"{self.where}: missing key '{key}'")
        self._taken.add(key)
        value = self.data[key]
        # bool is an int and str is a sequence to Python, but not to the author of a table.
        disguised = isinstance(value, bool) or (kind is Sequence and isinstance(value, str))
        if disguised or not isinstance(value, kind):
            wanted = _NAMES.get(kind, kind.__name__)
            raise SkiptuneError(f"{self.where}.{key}: expected {wanted}, found {_kind(value)}")
        return value

    def optional(self, key: str, kind: type, default: Any) -> Any:
        """The value of a key that may be absent or null."""
        if self.data.get(key) is None:
            self._taken.add(key)
            return default
        return self.take(key, kind)

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        value = self.take(key, str)
        if value not in allowed:
            raise SkiptuneError(f"{self.where}.{key}: '{value}' is not one of {', '.join(allowed)}")
        return str(value)

    def sections(self, key: str) -> list[Section]:
        """The mappings of a required list."""
        return [Section(item, f"{self.where}: {key}[{i}]") for i, item in enumerate(self.take(key, Sequence))]

    def optional_sections(self, key: str) -> list[Section]:
        """The mappings of a list that may be absent or null."""
        return [] if self.optional(key, Sequence, None) is None else self.sections(key)

    def floats(self, key: str) -> tuple[float, ...]:
        """A required list of finite numbers."""
        values = self.take(key, Sequence)
        return tuple(_number(value, f"{self.where}.{key}[{i}]") for i, value in enumerate(values))

    def numbers(self, key: str) -> dict[str, float]:
        """An optional mapping from names to finite numbers."""
        values = self.optional(key, Mapping, {})
        return {str(name): _number(value, f"{self.where}.{key}.{name}") for name, value in values.items()}

    def number(self, key: str) -> float:
        """A required finite number."""
        if key not in self.data:
            raise SkiptuneError(f"{self.where}: missing key '{key}'")
        self._taken.add(key)
        return _number(self.data[key], f"{self.where}.{key}")

    def flag(self, key: str, default: bool) -> bool:
        """An optional true or false."""
        self._taken.add(key)
        value = self.data.get(key, default)
        if type(value) is not bool:
            raise SkiptuneError(f"{self.where}.{key}: expected true or false, found {_kind(value)}")
        return value

    def finish(self) -> None:
        if unknown := [key for key in self.data if key not in self._taken]:
            known = ", ".join(sorted(self._taken))
            raise SkiptuneError(f"{self.where}: unknown key '{unknown[0]}'; known keys: {known}")


_NAMES: dict[type, str] = {Mapping: "a mapping", Sequence: "a list", str: "text", int: "a whole number"}


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SkiptuneError(f"{where}: expected a finite number, found {value!r}")
    return float(value)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)
