"""Texts in files, such as prompts: one a line, or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skiptune.errors import SkiptuneError


def read_texts(path: Path) -> Any:
    """The lines of a file, or what its JSON is if its name ends so.

    Raises:
        SkiptuneError: no such file, bytes that are no UTF-8, no JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin with a mark
        return json.loads(text) if path.suffix == ".json" else text.removesuffix("\n").split("\n")
    except OSError as error:
        raise SkiptuneError(f"cannot read {path} ({error.strerror or error}): check the path") from error
    except (ValueError, RecursionError) as error:
        raise SkiptuneError(f"{path} holds no text or JSON ({error})") from error


def list_of_texts(path: Path) -> tuple[str, ...]:
    """The texts of a file in order, each of at least one letter. Raises SkiptuneError, naming a bad one."""
    found = read_texts(path)
    if not isinstance(found, list) or not found:
        raise SkiptuneError(f"{path} holds no list of texts: write one a line")
    for number, text in enumerate(found, start=1):
        if not is_text(text):
            raise SkiptuneError(f"{path}: text {number} of {len(found)} is empty or no text")
    return tuple(found)


def is_text(value: Any) -> bool:
    """Whether it says something that can be encoded, which half a surrogate pair of JSON cannot."""
    return isinstance(value, str) and bool(value.strip()) and _encodes(value)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
