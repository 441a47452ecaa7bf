"""Norms of skip and decoder features at every site (Skip-Tuning, section 3, Figures 2 and 10)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.sites import SkipSite


@dataclass
class SkipNorms:
    """Norms recorded per network call: entries of ``u`` and ``d`` are ``[sites, N]`` float64."""

    u: list[Tensor] = field(default_factory=list)
    d: list[Tensor] = field(default_factory=list)

    def proportions(self) -> Tensor:
        """``prop_i = |d_i| / |u_i|``, mean over calls and images, ``[sites]`` float64.

        Raises:
            SkiptuneError: nothing was recorded.
        """
        if not self.u:
            raise SkiptuneError("no skip norms were recorded: call the denoiser inside the with block")
        return (torch.cat(self.d, dim=1) / torch.cat(self.u, dim=1)).mean(dim=1)


@contextlib.contextmanager
def record_skip_norms(denoiser: nn.Module, sites: Sequence[SkipSite]) -> Iterator[SkipNorms]:
    """Record ``|u_i|`` and ``|d_i|`` of every call of ``denoiser`` inside the ``with`` block.

    Attach an intervention first to see what the decoder receives with it, last to see the untouched features.
    """
    record = SkipNorms()
    u: dict[int, Tensor] = {}
    d: dict[int, Tensor] = {}

    def listen(site: SkipSite) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            features = args[0].detach().to(torch.float64)
            u[site.index] = features[:, : site.u_channels].flatten(1).norm(dim=1)
            d[site.index] = features[:, site.u_channels :].flatten(1).norm(dim=1)

        return hook

    def finish(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        for kept, norms in ((record.u, u), (record.d, d)):
            kept.append(torch.stack([norms[site.index] for site in sites]))
            norms.clear()

    handles = [site.block.register_forward_pre_hook(listen(site)) for site in sites]
    handles.append(denoiser.register_forward_hook(finish))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()
