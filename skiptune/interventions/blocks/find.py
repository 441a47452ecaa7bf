"""Where the transformer blocks of a diffusers U-Net are (Importance Probe, Fig. 2 and Sec. III-C)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.sites import inner_networks, network_family


@dataclass(frozen=True)
class Transformer:
    """One spatial transformer (or plain attention) of a block.

    Attributes:
        index: that of the block it belongs to.
        name: path inside the network.
        block: the module; its output contains its own residual input.
    """

    index: int
    name: str
    block: nn.Module


@dataclass(frozen=True)
class TransformerBlock:
    """A level of the U-Net with transformers in it: what the paper calls a Transformer block.

    Attributes:
        index: 0 for the first, in the order of execution.
        number: as the paper counts: a down block has the number of its level, the middle and the up blocks
            follow. That is 0-6 for the SD family and 1-5 for the SDXL family, with the middle at 3.
        name: path inside the network.
        transformers: in the order of execution.
    """

    index: int
    number: int
    name: str
    transformers: tuple[Transformer, ...]


def find_transformer_blocks(network: nn.Module) -> tuple[TransformerBlock, ...]:
    """The transformer blocks of a diffusers U-Net, or of the one inside a denoiser or wrapper.

    Raises:
        SkiptuneError: no U-Net of diffusers, or one without attention.
    """
    path, inner = inner_networks(network)[-1]
    family = network_family(inner).family
    if family != "diffusers":
        raise SkiptuneError(
            f"transformer blocks are found in U-Nets of diffusers, {type(inner).__name__} is of the family "
            f"{family}"
        )
    found = [(name, depth, held) for name, depth, level in levels(inner) if (held := attentions(level))]
    if not found:
        raise SkiptuneError(f"{type(inner).__name__} has no attention, so there is no transformer block")
    first = next((depth for _, depth, _ in found if depth is not None), 0)
    return tuple(
        TransformerBlock(
            i,
            first + i,
            path + name,
            tuple(Transformer(i, f"{path}{name}.attentions.{j}", module) for j, module in held),
        )
        for i, (name, _, held) in enumerate(found)
    )


def levels(network: Any) -> Iterator[tuple[str, int | None, nn.Module]]:
    """Name, number of the level (of down blocks) and module, in the order of execution."""
    for i, block in enumerate(network.down_blocks):
        yield f"down_blocks.{i}", i, block
    if isinstance(getattr(network, "mid_block", None), nn.Module):
        yield "mid_block", None, network.mid_block
    for i, block in enumerate(network.up_blocks):
        yield f"up_blocks.{i}", None, block


def attentions(level: Any) -> list[tuple[int, nn.Module]]:
    """The modules listed as ``attentions``, with their position; some middle blocks have empty places."""
    listed = enumerate(getattr(level, "attentions", None) or ())
    return [(j, module) for j, module in listed if module is not None]
