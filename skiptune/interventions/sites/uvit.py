"""U-ViT (Bao et al. 2023): a transformer with long skips, on tokens."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.sites.site import SkipSite


def recognises(network: Any) -> bool:
    """Lists ``in_blocks`` and ``out_blocks``; each of the latter joins its skip in ``skip_linear``."""
    lists = [getattr(network, name, None) for name in ("in_blocks", "out_blocks")]
    return all(isinstance(blocks, nn.ModuleList) and len(blocks) for blocks in lists) and all(
        getattr(block, "skip_linear", None) is not None for block in network.out_blocks
    )


def find(network: Any, path: str, size: int | None) -> tuple[SkipSite, ...]:
    """``skip_linear`` receives the tokens ``[N, L, 2C]``; the time and condition tokens come first.

    A block has no residual path and no normalisation before its ``skip_linear``.
    """
    tokens, width = network.pos_embed.shape[-2:]
    # With a class embedding there is a token for the label, besides the one for the time.
    extras = getattr(network, "extras", 1 + hasattr(network, "label_emb"))
    side = math.isqrt(tokens - extras)
    sites = []
    for index, block in enumerate(network.out_blocks):
        name, both = f"{path}out_blocks.{index}.skip_linear", block.skip_linear.weight.shape[1]
        if both != 2 * width:
            raise SkiptuneError(f"{name} takes {both} channels, decoder and skip have {width}+{width}")
        resolution = side if side**2 == tokens - extras else None
        sites.append(
            SkipSite(
                index,
                name,
                block.skip_linear,
                width,
                width,
                resolution=resolution,
                channel_dim=-1,
                exclusive=True,
            )
        )
    return tuple(sites)
