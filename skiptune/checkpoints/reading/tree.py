"""Whether a loaded value can be walked: whoever prints, converts or flattens it later needs no guard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skiptune.checkpoints.reading.persistence import ModuleRecord
from skiptune.checkpoints.reading.pickle_machine import Refused

DEEPEST, LARGEST = 200, 10_000_000


def check_tree(root: Any) -> None:
    """Raises Refused if the value contains itself, is nested too deeply, or is too large when walked.

    A pickle can put one list twice into the next, and that one twice into the next, so that thirty short
    lists have a thousand million elements; so shared parts count each time, though each is visited once.
    """
    known: dict[int, int] = {}  # sizes by id
    opened: set[int] = set()
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        key = id(node)
        if done:
            opened.discard(key)
            known[key] = 1 + sum(known.get(id(part), 1) for part in _parts(node))
            if known[key] > LARGEST:
                raise Refused("repeats its parts beyond any official file")
        elif key in opened:
            raise Refused("contains itself")
        elif key not in known:
            opened.add(key)  # the way from the root to here
            if len(opened) > DEEPEST:
                raise Refused("is nested too deeply")
            waiting.append((node, True))
            waiting.extend((part, False) for part in _parts(node) if _is_container(part))


def _is_container(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple, ModuleRecord))


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, ModuleRecord):
        return (value.state,)
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()
