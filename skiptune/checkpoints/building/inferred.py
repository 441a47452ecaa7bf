"""A description found from names and shapes, and what it had to assume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Inferred:
    """How a network is built.

    Attributes:
        description: as ``skiptune.denoisers.registry.build_denoiser`` takes it.
        assumed: what the file does not say, in words.
    """

    description: dict[str, Any]
    assumed: tuple[str, ...] = ()


def children(shapes: Shapes, path: str) -> list[int]:
    """The numbers that follow ``path`` in the names, in order (``path.0.x``, ``path.1.x``: 0, 1)."""
    heads = {name[len(path) + 1 :].partition(".")[0] for name in shapes if name.startswith(f"{path}.")}
    return sorted(int(head) for head in heads if head.isdigit())
