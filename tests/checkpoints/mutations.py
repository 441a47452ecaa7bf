"""Damaged and hostile copies of small files, numbered, so that a failure can be repeated."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from hostile import MARKER, call, data, name, nested, payload, text, whole
from official_files import DESCRIPTIONS, write
from safetensors.torch import save_file
from torch import Tensor, nn

from experiments.benchmarks.official_layout import write_edm, write_edm2
from skiptune.checkpoints.building.load import HEADER
from skiptune.checkpoints.reading.read import read_checkpoint

FRAGMENTS = [
    payload(),
    name("posix.system"),
    call("builtins.eval", text(f"open({MARKER!r}, 'w')")),
    text(f"touch {MARKER}"),
    nested(whole(payload())),
    data(bytes(40)),
    *(b"\x93R.", b"\x85R", b"h\x04", b"\xff" * 8, bytes(8)),
    *(bytes([opcode]) for opcode in b"(t012bQ\x81\x94"),
]
# What no official file says, in place of an argument.
VALUES: tuple[Any, ...] = (
    *(0, -1, 3, 10**5, 10**9, 10**18, 2**62, -(2**62)),
    *(0.5, 1e300, float("nan"), float("inf"), "x" * 300, "os.system\n", "", None, True),
    *([], [0], [-1], [1] * 2000, [10**9], [[[]]], ["a", None]),
    *({}, {"class": {}}, {"class": "UViT", "kwargs": 5}),
)
# Arguments that the official files leave at their defaults.
FURTHER = {"iDDPMPrecond": {"M": 20, "C_1": 0.001}, "EDMPrecond": {"channel_mult_emb": 4}}
SHAPES: tuple[tuple[int, ...], ...] = (
    *((), (0,), (1,), (3, 5), (0, 10**12), (10**9, 0, 3, 3), (0, 2**61), (1,) * 9),
)  # fmt: skip


def mutate(content: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """One to four flips, cuts, insertions, repetitions, splices or overwritten numbers."""
    return damage(content, others, dice, lambda length: dice.randrange(length + 1))


def mutate_words(content: bytes, others: list[bytes], dice: random.Random) -> bytes:
    """As ``mutate``, near the names in the file, not in the weights, which are nearly all of it."""

    def place(length: int) -> int:
        return min(max(dice.choice(words(content)) + dice.randint(-9, 30), 0), length)

    return damage(content, others, dice, place)


@lru_cache(maxsize=1)
def words(content: bytes) -> list[int]:
    """Where letters stand in the content."""
    return [match.start() for match in re.finditer(rb"[A-Za-z_]{4,}", content)] or [0]


def damage(content: bytes, others: list[bytes], dice: random.Random, place: Callable[[int], int]) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        at, length = place(len(changed)), dice.randint(1, 40)
        kind = dice.randrange(8)
        if kind == 0 and changed:
            changed[at % len(changed)] ^= 1 << dice.randrange(8)
        elif kind == 1:
            changed[at : at + 1] = bytes([dice.randrange(256)])
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length] * dice.randint(1, 20)
        elif kind == 4:
            changed[at:at] = dice.choice(FRAGMENTS)
        elif kind == 5:
            fragment = dice.choice(FRAGMENTS)
            changed[at : at + len(fragment)] = fragment
        elif kind == 6:
            other = dice.choice(others)
            start = dice.randrange(len(other))
            changed[at : at + length] = other[start : start + dice.randint(1, 400)]
        elif kind == 7 and dice.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def damaged(case: str, count: int, path: Path) -> Iterator[int]:
    """Writes ``count`` damaged copies of the official layout ``case`` to ``path``, one after the other."""
    (folder := path.parent / "intact").mkdir(exist_ok=True)
    content = write(case, folder)[0].read_bytes()
    for number in range(count):
        path.write_bytes(mutate_words(content, [content], random.Random(number)))
        yield number


def arguments(kwargs: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Copies of arguments, which may hold further ones, with one hostile value each."""
    for key, held in kwargs.items():
        for value in VALUES:
            yield {**kwargs, key: value}
        if isinstance(held, Mapping):
            for inner in arguments(held):
                yield {**kwargs, key: inner}


def misdescribed(case: str, every: int, path: Path) -> Iterator[int]:
    """Pickles whose record, or converted files whose header, asks for an impossible network."""
    pickled = case.endswith("Precond")
    given = {**DESCRIPTIONS[case]["kwargs"], **FURTHER.get(case, {})}
    all_changed = (
        ({"class": case, "kwargs": kwargs} for kwargs in arguments(given))
        if pickled
        else arguments(DESCRIPTIONS[case])
    )
    for number, changed in enumerate(all_changed):
        if number % every:
            continue
        if pickled:
            if case == "EDM2Precond":
                write_edm2(path, "Precond", changed["kwargs"], nn.Module())
            else:
                write_edm(path, case, changed["kwargs"], nn.Module())
        else:
            header = json.dumps({"description": changed, "assumed": []})
            save_file({"x": torch.zeros(1)}, path, {HEADER: header})
        yield number


def misshapen(case: str, every: int, path: Path) -> Iterator[int]:
    """State dicts in which one tensor has another shape, type or name, or is missing."""
    (folder := path.parent / "intact").mkdir(exist_ok=True)
    read: Any = read_checkpoint(write(case, folder)[0])
    dice = random.Random(0)
    inside = read.get("state_dict", read) if isinstance(read, Mapping) else read[-1]
    intact: dict[str, Tensor] = {str(key): value for key, value in inside.items()}
    names = list(intact)
    for number, key in enumerate([*names[:12], *dice.sample(names, 12)]):
        for change in range(len(SHAPES) + 3):
            if (number + change) % every:
                continue
            state: dict[Any, Any] = copy.copy(intact)
            if change < len(SHAPES):
                state[key] = torch.zeros(SHAPES[change])
            elif change == len(SHAPES):
                del state[key]
            elif change == len(SHAPES) + 1:
                state[key] = state[key].to(dice.choice([torch.int8, torch.complex64, torch.bool]))
            else:
                other = dice.choice([3, f"{key}\nerror: ", "x" * 5000, f"{key}.{10**20}"])
                state[other] = state.pop(key)
            held: Any = {"state_dict": state} if "state_dict" in read else state
            torch.save(held if isinstance(read, Mapping) else [state, {}, 1, 2, state], path)
            yield number * 100 + change
