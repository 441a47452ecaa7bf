"""EDM2 family: magnitude-preserving U-Net (Karras et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from skiptune.denoisers.edm2_layers import concat_weights
from skiptune.interventions.sites.decoder import DecoderBlock, pair_with_skips
from skiptune.interventions.sites.edm import has_encoder_and_decoder, resolution_in_key
from skiptune.interventions.sites.site import SkipSite


def recognises(network: Any) -> bool:
    """As in EDM, but the blocks begin with a convolution, ``conv_res0``, and have no normalisation layer."""
    return has_encoder_and_decoder(network) and any(
        hasattr(block, "conv_res0") for block in network.dec.values()
    )


def find(network: Any, path: str, size: int | None) -> tuple[SkipSite, ...]:
    t = getattr(network, "concat_balance", 0.5)
    skips = [
        (layer.conv_res1 if hasattr(layer, "conv_res1") else layer).weight.shape[0]
        for layer in network.enc.values()
    ]
    size = resolution_in_key(network) or size
    return pair_with_skips(decoder(network, path), skips[-1], skips, size, partial(concat_weights, t=t))


def decoder(network: Any, path: str) -> Iterator[DecoderBlock]:
    for name, block in network.dec.items():
        yield DecoderBlock(
            f"{path}dec.{name}",
            block,
            block.conv_res0.weight.shape[1],
            block.conv_res1.weight.shape[0],
            shortcut=getattr(block, "conv_skip", None),
            doubles=name.endswith("_up"),
        )
