"""Interventions on transformer blocks from plain settings, with values for every step or for all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.blocks import (
    AttentionPruning,
    BlockReweighting,
    find_transformer_blocks,
    skipping,
)


def by_step(name: str, value: Any, item: Callable[[Any], Any]) -> list[list[Any]] | None:
    """A list for every step, of items as ``item`` makes them; ``None`` stays, and one list is every step's.

    Raises:
        SkiptuneError: not of this form.
    """
    if value is None:
        return None
    if is_list(value) and len(value):
        steps = value if is_list(value[0]) else [value]
        if all(map(is_list, steps)):
            return [[item(one) for one in step] for step in steps]
    raise SkiptuneError(f"{name} is {value!r}, it must be a list over the blocks, or one for every step")


def is_list(value: Any) -> bool:
    """Also one of a configuration file's own kind."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def block_weight(value: Any) -> float:
    """A finite number as float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SkiptuneError(f"a block weight is {value!r}, it must be a number")
    return float(value)


def block_number(value: Any) -> int:
    """A block's number, as the paper counts."""
    if type(value) is not int or value < 0:
        raise SkiptuneError(f"a transformer block is given by its number, not {value!r}")
    return value


def make_block_reweighting(settings: Mapping[str, Any], steps: Sequence[float]) -> BlockReweighting:
    """Block re-weighting from complete settings, at the noise levels of a sampler's steps."""
    rows = settings["weights"] or [[1.0]]
    if len({len(row) for row in rows}) != 1:
        raise SkiptuneError("weights must have as many blocks in every step")
    return BlockReweighting(torch.tensor(rows), levels_of(len(rows), steps, "weights"), settings["part"])


def make_attention_pruning(
    settings: Mapping[str, Any], steps: Sequence[float], network: nn.Module
) -> AttentionPruning:
    """Attention pruning from complete settings, at the noise levels of a sampler's steps."""
    blocks = settings["blocks"] or [[]]
    mask = skipping(find_transformer_blocks(network), blocks)
    return AttentionPruning(mask, levels_of(len(blocks), steps, "blocks"))


def levels_of(rows: int, steps: Sequence[float], name: str) -> tuple[float, ...]:
    """The noise levels for values of ``rows`` steps, of which one stands for all."""
    if rows not in (1, len(steps)):
        raise SkiptuneError(f"{name} are given for {rows} steps, the sampler has {len(steps)}")
    return tuple(steps) if rows > 1 else ()
