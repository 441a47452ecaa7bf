"""Where the skip sites of a network are: one finder per architecture family, recognised by structure.

The networks only need the structure of the family, so official, ported and own classes are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.sites import ddim, diffusers, edm, edm2, guided, uvit
from skiptune.interventions.sites.site import SkipSite


@dataclass(frozen=True)
class Finder:
    """An architecture family: whether a network belongs to it, and its sites.

    ``find(network, path, size)`` gets the path of the network inside the module it was found in, and the
    pixels of its images where a wrapper knows them.
    """

    family: str
    recognises: Callable[[Any], bool]
    find: Callable[[Any, str, int | None], tuple[SkipSite, ...]]


FINDERS = (
    Finder("EDM", edm.recognises, edm.find),
    Finder("EDM2", edm2.recognises, edm2.find),
    Finder("guided diffusion", guided.recognises, guided.find),
    Finder("DDIM", ddim.recognises, ddim.find),
    Finder("U-ViT", uvit.recognises, uvit.find),
    Finder("diffusers", diffusers.recognises, diffusers.find),
)
# Attributes in which denoisers, compiled, distributed and guided networks keep what they wrap.
INNER = ("_orig_mod", "module", "base_model", "model", "network", "unet", "denoiser", "diffusion_model")


def find_skip_sites(network: nn.Module) -> tuple[SkipSite, ...]:
    """The skip sites of a network, or of the network inside a denoiser or wrapper, in decoding order.

    Raises:
        SkiptuneError: no known architecture family.
    """
    chain = search(network)
    if not chain:
        raise SkiptuneError(f"{of_no_family(network)}, or pass sites=[SkipSite(...)]")
    sizes = [shape[-1] for _, module in chain if (shape := getattr(module, "image_shape", None))]
    path, inner = chain[-1]
    return network_family(inner).find(inner, path, sizes[-1] if sizes else None)


def inner_networks(network: nn.Module) -> tuple[tuple[str, nn.Module], ...]:
    """The network and what it wraps, down to the one of a known family, each with its path (``model.``).

    Raises:
        SkiptuneError: there is none.
    """
    chain = search(network)
    if not chain:
        raise SkiptuneError(of_no_family(network))
    return chain


def of_no_family(network: nn.Module) -> str:
    families = ", ".join(finder.family for finder in FINDERS)
    kind = type(network).__name__
    return f"{kind} is no U-Net of a known family ({families}): rename its parts as one of them does"


def search(network: nn.Module, path: str = "") -> tuple[tuple[str, nn.Module], ...]:
    """As ``inner_networks``; empty where there is none."""
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise SkiptuneError(f"{kind} is no torch module; of a diffusers pipeline give the U-Net, pipe.unet")
    here = (path, network)
    compiled = hasattr(network, "_orig_mod")  # which shows the attributes of what it wraps as its own
    if not compiled and any(finder.recognises(network) for finder in FINDERS):
        return (here,)
    for name in INNER:
        inner = getattr(network, name, None)
        if isinstance(inner, nn.Module) and (found := search(inner, f"{path}{name}.")):
            return (here, *found)
    return ()


def network_family(network: nn.Module) -> Finder:
    """The architecture family of a network, or of the network inside a denoiser or wrapper.

    Raises:
        SkiptuneError: none that is known.
    """
    inner = inner_networks(network)[-1][1]
    return next(finder for finder in FINDERS if finder.recognises(inner))
