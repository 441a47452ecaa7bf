"""Block re-weighting: multiply the output of transformer blocks (Importance Probe, Sec. III-A and III-E)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.blocks.attach import switched
from skiptune.interventions.blocks.table import BlockTable, as_table

PARTS = ("output", "branch")


@dataclass(frozen=True, eq=False)
class BlockReweighting:
    """Multiply the output of every transformer of block ``i`` by ``w_i``.

    >>> with BlockReweighting(torch.tensor([1, 1, 1, 1.1, 1, 1, 1])).attached_to(pipe.unet):
    ...     images = pipe(prompt).images

    Attributes:
        weights: finite numbers from 0 up, for the blocks in the order of execution: ``[m]`` for every call,
            ``[S, m]`` by step, ``[S, N, m]`` by step and image. 1 leaves the output bit-identical.
        levels: noise levels of the S steps; a call takes the step whose level is nearest.
        part: ``output`` scales the whole output, residual included; ``branch`` what the transformer adds to
            its input (the other reading of IP-A6).
    """

    weights: Tensor
    levels: tuple[float, ...] = ()
    part: str = "output"

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise SkiptuneError(
                f"unknown part {self.part!r} of a transformer block; choose one of {', '.join(PARTS)}"
            )
        table = self.table
        if not bool(torch.isfinite(table).all()) or bool((table < 0).any()):
            raise SkiptuneError("block weights must be finite numbers from 0 up")

    @property
    def table(self) -> Tensor:
        """``[S, N, m]`` float32."""
        return as_table(self.weights.to(torch.float32), self.levels, "block weights")

    @contextlib.contextmanager
    def attached_to(
        self, network: nn.Module, sigma_of: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[None]:
        """Act on ``network`` inside the ``with`` block; leaving it restores the network.

        Blocks inside each other multiply. A network that is to be compiled is compiled after attaching.

        Args:
            network: a U-Net of diffusers, or a denoiser or wrapper with one inside.
            sigma_of: noise level of a network's time, for weights by step on a U-Net that is not inside of a
                denoiser. With ``lambda t: t`` the ``levels`` are times, as of a scheduler.

        Raises:
            SkiptuneError: no transformer blocks, or another number of them than weights; weights by step
                without noise levels; when called, a batch that is no multiple of N images.
        """
        table = BlockTable(self.table, self.levels)
        acting = [i for i in range(table.values.shape[-1]) if bool((table.values[..., i] != 1).any())]
        with switched(
            network,
            table,
            acting,
            sigma_of,
            lambda switch, place: switch.add_scale(Weight(table, place.index, self.part)),
        ):
            yield


class Weight:
    """The scale of one transformer."""

    def __init__(self, table: BlockTable, block: int, part: str):
        self.table, self.block, self.part = table, block, part

    def __call__(self, x: Tensor, output: Tensor, kept: Tensor | None) -> Tensor:
        factor = self.table.column(self.block, len(output), output.device)
        if kept is not None:
            factor = torch.where(kept.to(factor.device), factor, 1.0)
        factor = factor.reshape(-1, *[1] * (output.dim() - 1))
        # Half precision would round the factor, which differs from 1 by hundredths.
        exact = torch.promote_types(output.dtype, torch.float32)
        whole, factor = output.to(exact), factor.to(exact)
        if self.part == "branch":  # exact at both ends, 0 and 1
            return torch.lerp(x.to(exact), whole, factor).to(output.dtype)
        return (whole * factor).to(output.dtype)
