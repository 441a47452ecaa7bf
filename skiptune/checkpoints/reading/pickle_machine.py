"""A stack machine for the pickle language that builds plain values and calls nothing foreign.

Written out instead of subclassing `pickle.Unpickler`, because that one imports, allocates what a length field
says, keeps a memo as large as its largest index, and copies every byte string. Here byte strings are views of
the mapped file, a global is whatever the handler answers for its name, and every step is counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

MAX_STEPS = 2_000_000  # an official file needs some 100,000
LONGEST_LINE = 1000


class Refused(Exception):
    """A file is damaged or asks for something that is not allowed; the text says what, in one line."""


@dataclass(frozen=True, eq=False)
class Global:
    """What a name in a pickle stands for here: nothing that runs, unless one of our own builders is given.

    Attributes:
        name: ``module.name`` as in the file.
        call: builder for REDUCE (``name(*args)``).
        make: builder for NEWOBJ (``name.__new__(name, *args)``).
    """

    name: str
    call: Callable[..., Any] | None = None
    make: Callable[..., Any] | None = None


class Handler(Protocol):
    """The meaning of the four things in a pickle that are not plain values; each raises Refused."""

    def find(self, module: str, name: str) -> Any: ...
    def build(self, value: Any, state: Any) -> None: ...
    def persistent(self, identifier: Any) -> Any: ...


class Budget:
    """What a file may cost, shared by all pickles nested in it: steps, and bytes that are copied."""

    def __init__(self, size: int) -> None:
        self.steps, self.bytes = MAX_STEPS, size

    def spend(self, steps: int = 0, copied: int = 0) -> None:
        """Raises Refused when nothing is left."""
        self.steps -= steps
        self.bytes -= copied
        if self.steps < 0:
            raise Refused(f"has more than {MAX_STEPS} elements or steps, far more than any official file")
        if self.bytes < 0:
            raise Refused("uses the same bytes again and again to fill the memory")


class Machine:
    """One pickle, read from ``position`` of ``data``; afterwards ``position`` is behind it.

    Attributes:
        protocol: as its head says, 0 without one.
        globals: the names that it refers to, ``module.name``.
    """

    def __init__(self, data: memoryview, handler: Handler, budget: Budget, position: int = 0) -> None:
        self.data, self.handler, self.budget, self.position = data, handler, budget, position
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.protocol = 0
        self.globals: set[str] = set()

    def take(self, size: int) -> memoryview:
        """The next bytes, as a view. Raises Refused before anything is allocated."""
        end = self.position + size
        if end > len(self.data):
            raise Refused(
                f"is truncated: {size} bytes should follow, {len(self.data) - self.position} are left"
            )
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, size: int, signed: bool = False) -> int:
        """A little-endian integer of that many bytes."""
        return int.from_bytes(self.take(size), "little", signed=signed)

    def text(self, size: int, encoding: str = "utf-8") -> str:
        """A string of that many bytes."""
        return str(self.take(size), encoding, "surrogatepass" if encoding == "utf-8" else "strict")

    def line(self) -> str:
        """The text up to the end of the line."""
        ahead = bytes(self.data[self.position : self.position + LONGEST_LINE])
        length = ahead.index(b"\n")
        self.position += length + 1
        return ahead[:length].decode("latin-1")

    def find(self, module: Any, name: Any) -> Any:
        """What a name stands for."""
        if type(module) is not str or type(name) is not str:
            raise Refused("refers to a global whose name is no text")
        self.globals.add(f"{module[:LONGEST_LINE]}.{name[:LONGEST_LINE]}")
        return self.handler.find(module, name)

    def pop_mark(self) -> list[Any]:
        """The values since the last mark."""
        values, self.stack = self.stack, self.marked.pop()
        return values

    def add_items(self, target: Any, items: list[Any]) -> None:
        """Set alternating keys and values in a dictionary."""
        if type(target) not in (dict, OrderedDict):
            raise Refused(f"sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[checked_key(key)] = value


def checked_key(key: Any) -> Any:
    """A key of a dictionary or set: only what hashes at once and rarely collides, so no file can stall."""
    if isinstance(key, Global) or key is None or type(key) in (str, bool, float):
        return key
    if type(key) is int and -(2**63) <= key < 2**64:
        return key
    raise Refused(f"has a {type(key).__name__} as the key of a dictionary or the element of a set")
