"""Scaling and skipping one transformer, by rows of the batch, for any number of interventions at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from skiptune.interventions.forwarding import StandIn


class Scale(Protocol):
    """Changes the output of the rows that were not skipped."""

    def __call__(self, x: Tensor, output: Tensor, kept: Tensor | None) -> Tensor:
        """``x`` and ``output`` ``[N, C, H, W]``, ``kept`` ``[N]`` bool on the CPU, ``None`` for all."""


Skip = Callable[[int], Tensor]
"""Number of rows -> which of them to skip, ``[N]`` bool on the CPU."""


class Switch:
    """Stands in for the ``forward`` of a transformer while interventions act on it.

    A skipped row passes its input on unscaled, whatever the order of the interventions (IP-A6).
    """

    def __init__(self, module: nn.Module):
        self.scales: list[Scale] = []
        self.skips: list[Skip] = []
        self.stand_in = StandIn(module, self)

    @classmethod
    def of(cls, module: nn.Module) -> Switch:
        """The module's switch, put there if it has none."""
        present = module.__dict__.get("forward")
        return present if isinstance(present, Switch) else cls(module)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        kept = self.kept(len(x))
        if kept is None:
            output = self.stand_in.original(x, *args, **kwargs)
        elif kept.any():
            where = kept.to(x.device)
            others = (select(value, where) for value in args)
            named = {key: select(value, where) for key, value in kwargs.items()}
            part = unpacked(self.stand_in.original(x[where], *others, **named))
            output = x.to(part.dtype).clone()
            output[where] = part
        else:
            output = x
        result = unpacked(output)
        for scale in self.scales:
            result = scale(x, result, kept)
        # Transformers return a tuple where U-Nets tell them to, plain attention the tensor.
        return (result,) if kwargs.get("return_dict") is False else result

    def kept(self, count: int) -> Tensor | None:
        """Rows to compute, ``[count]`` bool; ``None`` for all."""
        skipped = torch.zeros(count, dtype=torch.bool)
        for skip in self.skips:
            skipped |= skip(count)
        return ~skipped if skipped.any() else None

    def add_scale(self, scale: Scale) -> Added:
        """Scale until the result is removed."""
        self.scales.append(scale)
        return Added(self, self.scales, scale)

    def add_skip(self, skip: Skip) -> Added:
        """Skip until the result is removed."""
        self.skips.append(skip)
        return Added(self, self.skips, skip)


@dataclass(frozen=True)
class Added:
    """What one intervention has added to a switch; the last to be removed restores the module."""

    switch: Switch
    effects: list[Any]
    effect: Any

    def remove(self) -> None:
        self.effects.remove(self.effect)
        if not self.switch.scales and not self.switch.skips:
            self.switch.stand_in.remove()


def unpacked(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def select(value: Any, where: Tensor) -> Any:
    """Rows of every tensor of the batch inside of lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        return value[where.to(value.device)] if value.shape[:1] == where.shape else value
    if isinstance(value, dict):
        return {key: select(item, where) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([select(item, where) for item in value])
    return value
