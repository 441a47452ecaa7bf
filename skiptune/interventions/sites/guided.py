"""Guided-diffusion family (Dhariwal & Nichol 2021), also of consistency_models and latent-diffusion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from skiptune.interventions.sites.decoder import DecoderBlock, pair_with_skips
from skiptune.interventions.sites.site import SkipSite


def recognises(network: Any) -> bool:
    """Lists ``input_blocks`` and ``output_blocks``; a stage of the decoder begins with a residual block."""
    lists = [getattr(network, name, None) for name in ("input_blocks", "output_blocks")]
    return all(isinstance(stages, nn.ModuleList) and len(stages) for stages in lists) and all(
        hasattr(stage[0], "in_layers") for stage in network.output_blocks
    )


def find(network: Any, path: str, size: int | None) -> tuple[SkipSite, ...]:
    """Every stage of the encoder leaves a skip, every stage of the decoder takes one."""
    skips: list[int] = []
    for stage in network.input_blocks:
        skips.append(out_channels(stage[0], skips[-1] if skips else 0))
    size = getattr(network, "image_size", None) or size
    return pair_with_skips(decoder(network, path), skips[-1], skips, size)


def decoder(network: Any, path: str) -> Iterator[DecoderBlock]:
    doubles = False
    for i, stage in enumerate(network.output_blocks):
        first = stage[0]
        norm = first.in_layers[0]
        yield DecoderBlock(
            f"{path}output_blocks.{i}",
            stage,
            norm.weight.shape[0],
            out_channels(first, 0),
            norm,
            first.skip_connection,
            doubles,
        )
        doubles = any(upsamples(layer) for layer in list(stage)[1:])


def out_channels(layer: Any, width: int) -> int:
    """Of a residual block, of the first convolution, or of a resampling layer, which keeps the ``width``."""
    if hasattr(layer, "out_layers"):
        return layer.out_layers[-1].weight.shape[0]
    return layer.weight.shape[0] if hasattr(layer, "weight") else width


def upsamples(layer: nn.Module) -> bool:
    """Behind the first block of a stage comes attention and, at the end of a level, what doubles the size."""
    return any(hasattr(layer, name) for name in ("in_layers", "conv", "use_conv"))
