"""Skip sites: the places of a U-Net where decoder features ``u`` and encoder features ``d`` are concatenated.

One finder per architecture family lists them; everything that acts on them is generic. The networks only need
the structure of the family, so official, ported and own classes are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from skiptune.errors import SkiptuneError


@dataclass(frozen=True)
class SkipSite:
    """One concatenation ``[u, d]`` along the channels.

    Attributes:
        index: 0 at the bottom (lowest resolution), counting in decoding order.
        name: path of the module inside the network.
        block: decoder block whose first argument is the concatenation ``[N, u + d, H, W]``.
        norm: the first normalisation of that block.
        shortcut: the layer on the block's residual path, ``None`` where the input is added as it is.
        u_channels, d_channels: channels of decoder and of skip features.
        resolution: of the concatenation, in pixels; an up-sampling block would receive half of its own.
    """

    index: int
    name: str
    block: nn.Module
    norm: nn.Module
    u_channels: int
    d_channels: int
    resolution: int
    shortcut: nn.Module | None = None

    @property
    def matching(self) -> bool:
        """Whether skip and decoder part are equally wide (Skip-Tuning, section 2)."""
        return self.u_channels == self.d_channels


def find_skip_sites(network: nn.Module) -> tuple[SkipSite, ...]:
    """The skip sites of a network, or of the network inside a denoiser, in decoding order.

    Raises:
        SkiptuneError: no known architecture family.
    """
    for prefix, module in (("", network), ("model.", getattr(network, "model", None))):
        if isinstance(module, nn.Module):
            for recognises, find in FINDERS:
                if recognises(module):
                    return find(module, prefix)
    raise SkiptuneError(
        f"{type(network).__name__} is no known U-Net: it needs encoder and decoder as in EDM (enc, dec)"
    )


def is_edm_unet(network: nn.Module) -> bool:
    """EDM family: module dictionaries ``enc`` and ``dec`` of blocks with ``in_channels`` and ``norm0``."""
    return isinstance(getattr(network, "enc", None), nn.ModuleDict) and isinstance(
        getattr(network, "dec", None), nn.ModuleDict
    )


def find_edm_sites(network: nn.Module, prefix: str) -> tuple[SkipSite, ...]:
    """A decoder block takes a skip when its input is wider than what comes from below; skips leave last-in
    first-out."""
    skips = []
    for name, layer in network.enc.items():  # type: ignore[operator, union-attr]
        if "aux" not in name:  # auxiliary layers of NCSN++ change the newest skip, not the number of skips
            skips.append(layer.out_channels if hasattr(layer, "norm0") else layer.weight.shape[0])
    width = skips[-1]
    sites: list[SkipSite] = []
    for name, block in network.dec.items():  # type: ignore[operator, union-attr]
        if not hasattr(block, "norm0"):
            continue
        if block.in_channels != width:
            d = skips.pop()
            if width + d != block.in_channels:
                raise SkiptuneError(
                    f"block {name} takes {block.in_channels} channels, decoder and skip have {width}+{d}"
                )
            resolution = int(name.split("x")[0])
            path, shortcut = f"{prefix}dec.{name}", getattr(block, "skip", None)
            sites.append(SkipSite(len(sites), path, block, block.norm0, width, d, resolution, shortcut))
        width = block.out_channels
    return tuple(sites)


FINDERS: list[tuple[Callable[[nn.Module], bool], Callable[[nn.Module, str], tuple[SkipSite, ...]]]] = [
    (is_edm_unet, find_edm_sites),
]
