"""U-Nets of the diffusers library: ``UNet2DModel``, ``UNet2DConditionModel`` and what is built like them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from skiptune.interventions.sites.decoder import DecoderBlock, pair_with_skips
from skiptune.interventions.sites.site import SkipSite


def recognises(network: Any) -> bool:
    """Lists ``down_blocks`` and ``up_blocks`` of blocks whose ``resnets`` begin with ``norm1``."""
    lists = [getattr(network, name, None) for name in ("down_blocks", "up_blocks")]
    return hasattr(network, "conv_in") and all(
        isinstance(blocks, nn.ModuleList)
        and len(blocks)
        and all(is_residual(resnet) for block in blocks for resnet in getattr(block, "resnets", [None]))
        for blocks in lists
    )


def is_residual(resnet: Any) -> bool:
    return all(hasattr(resnet, name) for name in ("norm1", "in_channels", "conv2"))


def out_channels(resnet: Any) -> int:
    return resnet.conv2.weight.shape[0]  # its attribute of this name is another width in some K-blocks


def find(network: Any, path: str, size: int | None) -> tuple[SkipSite, ...]:
    """How many skips a down block makes differs between its kinds, so the decoder says how wide they are."""
    width = out_channels(network.down_blocks[-1].resnets[-1])
    sample = getattr(getattr(network, "config", None), "sample_size", None)
    size = (sample[-1] if isinstance(sample, (list, tuple)) else sample) or size
    return pair_with_skips(decoder(network, path), width, None, size)


def decoder(network: Any, path: str) -> Iterator[DecoderBlock]:
    doubles = False
    for i, block in enumerate(network.up_blocks):
        for j, resnet in enumerate(block.resnets):
            yield DecoderBlock(
                f"{path}up_blocks.{i}.resnets.{j}",
                resnet,
                resnet.in_channels,
                out_channels(resnet),
                resnet.norm1,
                getattr(resnet, "conv_shortcut", None),
                doubles=doubles and j == 0,
            )
        # The blocks of skip networks (SkipUpBlock2D) go up through a residual block instead.
        doubles = any(getattr(block, name, None) is not None for name in ("upsamplers", "resnet_up"))
