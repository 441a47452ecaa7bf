"""Rows, claims and tests written once for several settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from string import Formatter
from typing import Any

from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError

EXPAND = "expand"
ALONE = re.compile(r"\{([^{}:!]+)\}")


def expanded(entry: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The entries of one with ``expand: {setting: [values]}``: one for every combination of the values.

    In its texts (id, label, baseline, ...) ``{setting}`` stands for the value, ``{setting[key]}`` for what a
    value that is a mapping has there; a text that is nothing but such a place becomes the value itself.
    Entries of lists within it may have an ``expand`` of their own, for which the settings around hold too.

    Raises:
        SkiptuneError: a setting without values, a text that does not fit.
    """
    return list(_combinations(entry, {}, where))


def _combinations(
    entry: Mapping[str, Any], around: Mapping[str, Any], where: str
) -> Iterator[dict[str, Any]]:
    own = dict(entry)
    axes = Section(own.pop(EXPAND, None) or {}, f"{where}.{EXPAND}")
    lists = {key: axes.take(key, Sequence) for key in list(axes.data)}
    if empty := [key for key, values in lists.items() if not values]:
        raise SkiptuneError(f"{where}.{EXPAND}.{empty[0]} is empty: give at least one value")
    for values in product(*lists.values()):
        settings = {**around, **dict(zip(lists, values, strict=True))}
        yield {key: _filled(inner, settings, where) for key, inner in own.items()}


def _filled(value: Any, settings: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(inner, settings, where) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [one for inner in value for one in _entries(inner, settings, where)]
    if not (settings and isinstance(value, str)):
        return value
    try:
        if place := ALONE.fullmatch(value):
            return Formatter().get_field(place[1], (), settings)[0]
        return value.format(**settings)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise SkiptuneError(f"{where}: {value!r} does not fit its expand ({error})") from error


def _entries(inner: Any, settings: Mapping[str, Any], where: str) -> list[Any]:
    """Of an item of a list: itself, or what its own ``expand`` makes of it."""
    if isinstance(inner, Mapping) and EXPAND in inner:
        return list(_combinations(inner, settings, where))
    return [_filled(inner, settings, where)]
