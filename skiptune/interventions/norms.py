"""Norms of skip and decoder features at every site (Skip-Tuning, section 3, Figures 2 and 10)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.attachment import hooked
from skiptune.interventions.sites import SkipSite, find_skip_sites, inner_networks


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
def record_skip_norms(network: nn.Module, sites: Sequence[SkipSite] | None = None) -> Iterator[SkipNorms]:
    """Record ``|u_i|`` and ``|d_i|`` of every call of ``network`` inside the ``with`` block.

    They are those of the features themselves, without the weights of a magnitude-preserving concatenation.
    Attach an intervention first to see what the decoder receives with it, last to see the untouched features.

    Args:
        sites: where to record; all sites of the network unless given.

    Raises:
        SkiptuneError: a network of no known family, or a call that went past a site.
    """
    # A wrapper may evaluate the network more than once in a call of its own.
    inner = network
    if sites is None:
        sites, inner = find_skip_sites(network), inner_networks(network)[-1][1]
    record = SkipNorms()
    current: dict[int, tuple[Tensor, Tensor]] = {}

    def listen(site: SkipSite) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            u, d = (part.detach().to(torch.float64).flatten(1).norm(dim=1) for part in site.split(args[0]))
            current[site.index] = u / site.balance[0], d / site.balance[1]

        return [site.block.register_forward_pre_hook(hook)]

    def finish(*_: Any) -> None:
        norms = [current.pop(site.index) for site in sites if site.index in current]
        if len(norms) == len(sites):  # else the check of the call says what is missing
            record.u.append(torch.stack([u for u, _ in norms]))
            record.d.append(torch.stack([d for _, d in norms]))

    with hooked(network, sites, listen):
        handle = inner.register_forward_hook(finish)
        try:
            yield record
        finally:
            handle.remove()
