"""Attention pruning: leave transformer blocks out while sampling (Importance Probe, Sec. III-C and III-G)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.blocks.attach import switched
from skiptune.interventions.blocks.find import Transformer, TransformerBlock
from skiptune.interventions.blocks.switch import Added, Switch
from skiptune.interventions.blocks.table import BlockTable, as_table


@dataclass
class SkipCount:
    """Rows of the batch that transformers computed and skipped so far, in blocks that can be skipped."""

    computed: int = 0
    skipped: int = 0


@dataclass(frozen=True, eq=False)
class AttentionPruning:
    """Do not run the transformers of some blocks; what comes in is passed on unscaled.

    >>> blocks = find_transformer_blocks(pipe.unet)
    >>> with AttentionPruning(skipping(blocks, [[0, 6]])).attached_to(pipe.unet):
    ...     images = pipe(prompt).images

    Attributes:
        skipped: bool, shaped as the weights of ``BlockReweighting``. False everywhere is bit-identical.
        levels: noise levels of the S steps; a call takes the step whose level is nearest.
    """

    skipped: Tensor
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.skipped.dtype != torch.bool:
            raise SkiptuneError("blocks to be skipped must be given as true or false for every block")
        as_table(self.skipped, self.levels, "skipped blocks")

    @contextlib.contextmanager
    def attached_to(
        self, network: nn.Module, sigma_of: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[SkipCount]:
        """Act on ``network`` inside the ``with`` block, arguments and errors as of ``BlockReweighting``.

        Only the rows of the batch that are not skipped are computed; the result counts them.
        """
        table = BlockTable(as_table(self.skipped, self.levels, "skipped blocks"), self.levels)
        acting = [i for i in range(table.values.shape[-1]) if bool(table.values[..., i].any())]
        count = SkipCount()

        def add(switch: Switch, place: Transformer) -> Added:
            return switch.add_skip(Pruned(table, place.index, count))

        with switched(network, table, acting, sigma_of, add):
            yield count


class Pruned:
    """Which rows one transformer skips."""

    def __init__(self, table: BlockTable, block: int, count: SkipCount):
        self.table, self.block, self.count = table, block, count

    def __call__(self, rows: int) -> Tensor:
        skipped = self.table.column(self.block, rows, torch.device("cpu"))
        self.count.skipped += int(skipped.sum())
        self.count.computed += int((~skipped).sum())
        return skipped


def skipping(blocks: Sequence[TransformerBlock], steps: Sequence[Sequence[int]]) -> Tensor:
    """``[S, m]`` bool from the numbers (as the paper counts) of the blocks skipped in every step.

    Raises:
        SkiptuneError: no step, or a number that the network does not have.
    """
    numbers = [block.number for block in blocks]
    if not steps:
        raise SkiptuneError("blocks to be skipped need at least one step")
    for number in (number for step in steps for number in step):
        if number not in numbers:
            raise SkiptuneError(
                f"there is no transformer block {number!r}: the network has {numbers[0]} to {numbers[-1]}"
            )
    return torch.tensor([[number in step for number in numbers] for step in steps])
