"""Skip coefficients that a loss can be differentiated in, for learning them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skiptune.errors import SkiptuneError
from skiptune.interventions.attachment import hooked
from skiptune.interventions.sites import SkipSite


def scaled_skips(
    network: nn.Module, sites: Sequence[SkipSite], rho: Tensor
) -> contextlib.AbstractContextManager[None]:
    """``SkipTuning`` with coefficients ``rho`` ``[k]``, bottom site first, that may need a gradient.

    Acts on ``network`` inside the ``with`` block; any value is allowed.

    Raises:
        SkiptuneError: another number of sites than coefficients; when called, a network that goes past one.
    """
    if len(sites) != len(rho):
        raise SkiptuneError(f"{len(rho)} skip coefficients for a network with {len(sites)} skip sites")

    def register(site: SkipSite) -> list[RemovableHandle]:
        return [site.block.register_forward_pre_hook(scaling(site, rho[site.index]))]

    return hooked(network, sites, register)


def scaling(site: SkipSite, rho: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    """The hook of one site; ``rho`` is ``[]``."""

    def scale(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        u, d = site.split(args[0])
        return (torch.cat([u, d * rho.to(d.dtype)], site.channel_dim), *args[1:])

    return scale
