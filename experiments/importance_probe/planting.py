"""Blocks of known importance: what their transformers add is scaled, from nothing to most of the output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions import find_transformer_blocks


@contextlib.contextmanager
def planted(network: nn.Module, gains: Sequence[float]) -> Iterator[None]:
    """Multiply the output projections of block i's transformers by ``gains[i]`` inside the ``with`` block.

    A transformer's output is its input plus its projection, so with 0 the block is dead: to skip it changes
    nothing.

    Raises:
        SkiptuneError: another number of gains than blocks, or attention without an output projection.
    """
    blocks = find_transformer_blocks(network)
    if len(gains) != len(blocks):
        raise SkiptuneError(f"{len(gains)} gains are planted in a network with {len(blocks)} blocks")
    kept: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for block, gain in zip(blocks, gains, strict=True):
            for transformer in block.transformers:
                projection = getattr(transformer.block, "proj_out", None)
                if not isinstance(projection, nn.Module):
                    raise SkiptuneError(f"{transformer.name} has no output projection to be scaled")
                for parameter in projection.parameters():
                    kept.append((parameter, parameter.clone()))
                    parameter.mul_(gain)
    try:
        yield
    finally:
        with torch.no_grad():
            for changed, before in kept:
                changed.copy_(before)


def shuffled(gains: Sequence[float], case: int) -> list[float]:
    """The gains in an order that belongs to the case."""
    order = torch.randperm(len(gains), generator=torch.Generator().manual_seed(case))
    return [gains[i] for i in order.tolist()]
