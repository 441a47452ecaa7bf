"""DDPM/DDIM family (Ho et al. 2020; ermongroup/ddim and its relatives)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from skiptune.interventions.sites.decoder import DecoderBlock, pair_with_skips
from skiptune.interventions.sites.site import SkipSite


def recognises(network: Any) -> bool:
    """Lists ``down`` and ``up`` of levels with ``block``, in one network (an autoencoder has them in two)."""
    return all(
        isinstance(levels := getattr(network, name, None), nn.ModuleList)
        and len(levels)
        and all(hasattr(level, "block") for level in levels)
        for name in ("down", "up")
    ) and hasattr(network, "conv_in")


def find(network: Any, path: str, size: int | None) -> tuple[SkipSite, ...]:
    """Levels count from full resolution down; the decoder begins with the last."""
    skips = [network.conv_in.weight.shape[0]]
    for level in network.down:
        skips += [block.conv2.weight.shape[0] for block in level.block]
        if getattr(level, "downsample", None) is not None:
            skips.append(skips[-1])
    size = getattr(network, "resolution", None) or size
    return pair_with_skips(decoder(network, path), skips[-1], skips, size)


def decoder(network: Any, path: str) -> Iterator[DecoderBlock]:
    last = len(network.up) - 1
    for level in range(last, -1, -1):
        for i, block in enumerate(network.up[level].block):
            yield DecoderBlock(
                f"{path}up.{level}.block.{i}",
                block,
                block.norm1.weight.shape[0],
                block.conv2.weight.shape[0],
                block.norm1,
                getattr(block, "nin_shortcut", None) or getattr(block, "conv_shortcut", None),
                doubles=i == 0 and level < last,
            )
