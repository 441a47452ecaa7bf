"""EDM family (Karras et al. 2022; ADM, DDPM++ and NCSN++ as NVlabs/edm builds them)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from skiptune.interventions.sites.decoder import DecoderBlock, pair_with_skips
from skiptune.interventions.sites.site import SkipSite


def recognises(network: Any) -> bool:
    """Module dictionaries ``enc`` and ``dec`` of blocks that begin with ``norm0``."""
    return has_encoder_and_decoder(network) and any(hasattr(block, "norm0") for block in network.dec.values())


def has_encoder_and_decoder(network: Any) -> bool:
    """Module dictionaries ``enc`` and ``dec``, whose keys begin with the resolution."""
    return all(isinstance(getattr(network, part, None), nn.ModuleDict) for part in ("enc", "dec"))


def find(network: Any, path: str, size: int | None) -> tuple[SkipSite, ...]:
    """Auxiliary layers of NCSN++ change the newest skip, not the number of skips."""
    skips = [
        layer.out_channels if hasattr(layer, "norm0") else layer.weight.shape[0]
        for name, layer in network.enc.items()
        if "aux" not in name
    ]
    return pair_with_skips(decoder(network, path), skips[-1], skips, resolution_in_key(network) or size)


def decoder(network: Any, path: str) -> Iterator[DecoderBlock]:
    for name, block in network.dec.items():
        if hasattr(block, "norm0"):
            yield DecoderBlock(
                f"{path}dec.{name}",
                block,
                block.in_channels,
                block.out_channels,
                block.norm0,
                getattr(block, "skip", None),
                doubles=name.endswith("_up"),
            )


def resolution_in_key(network: Any) -> int | None:
    """Full resolution, with which the first key of the encoder begins (``64x64_conv``)."""
    digits = next(iter(network.enc)).partition("x")[0]
    return int(digits) if digits.isdigit() else None
