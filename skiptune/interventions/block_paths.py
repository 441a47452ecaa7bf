"""What scaling the skip features does on each path of a decoder block (Skip-Tuning, appendix C, Remark 3.2).

A group normalisation divides by the scale of its group: groups of skip channels only hide a factor on them,
groups that straddle skip and decoder channels do not. The functions here measure this on the features that a
network really computes, each block for itself: every path is tried on the same recorded input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.attachment import hooked
from skiptune.interventions.sites import SkipSite, find_skip_sites
from skiptune.interventions.skip_tuning import SkipTuning


@dataclass(frozen=True, eq=False)
class BlockCall:
    """One call of a decoder block: what it was given, the concatenation [N, u + d, H, W] first, and gave."""

    site: SkipSite
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    output: Tensor


@contextlib.contextmanager
def record_block_calls(
    network: nn.Module, sites: Sequence[SkipSite] | None = None
) -> Iterator[list[BlockCall]]:
    """Every call of the decoder blocks inside the ``with`` block, in order; they keep their inputs in memory.

    Raises:
        SkiptuneError: a network of no known family, or a call that went past a site.
    """
    calls: list[BlockCall] = []

    def listen(site: SkipSite) -> Any:
        def hook(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> None:
            calls.append(BlockCall(site, arguments, keywords, output))

        return [site.block.register_forward_hook(hook, with_kwargs=True)]

    with hooked(network, find_skip_sites(network) if sites is None else sites, listen):
        yield calls


def group_kinds(site: SkipSite) -> tuple[str, ...]:
    """For every group of norm0, whether its channels are "decoder", "skip" or of both ("mixed").

    Raises:
        SkiptuneError: the block does not begin with a group normalisation.
    """
    width = (site.u_channels + site.d_channels) // _norm(site).num_groups
    kinds = []
    for first in range(0, site.u_channels + site.d_channels, width):
        only_decoder, only_skip = first + width <= site.u_channels, first >= site.u_channels
        kinds.append("decoder" if only_decoder else "skip" if only_skip else "mixed")
    return tuple(kinds)


@torch.no_grad()
def norm0_changes(call: BlockCall, rho: float) -> Tensor:
    """Relative change of norm0's output by scaling the skip channels of its input: [N, groups] float64.

    ``|norm0([u, rho d]) - norm0([u, d])| / |norm0([u, d])|``, 2-norms over the elements of a group.

    Raises:
        SkiptuneError: the block does not begin with a group normalisation.
    """
    norm, x = _norm(call.site), call.arguments[0]
    u, d = call.site.split(x)
    # `forward` itself: hooks of the norm belong to interventions.
    before, after = norm.forward(x), norm.forward(torch.cat([u, rho * d], dim=1))
    before, after = (
        y.to(torch.float64).unflatten(1, (norm.num_groups, -1)).flatten(2) for y in (before, after)
    )
    return (after - before).norm(dim=2) / before.norm(dim=2)


@torch.no_grad()
def output_changes(call: BlockCall, rho: float, place: str = "input") -> Tensor:
    """Relative change of the block's output by Skip-Tuning at one place of it: [N] float64.

    Raises:
        SkiptuneError: a place that Skip-Tuning or this block does not have.
    """
    x = call.arguments[0].clone()  # Skip-Tuning may write into it
    with SkipTuning((rho,), place).attached_to(call.site.block, [call.site]):
        tuned = call.site.block(x, *call.arguments[1:], **call.keywords)
    before, after = (y.to(torch.float64).flatten(1) for y in (call.output, tuned))
    return (after - before).norm(dim=1) / before.norm(dim=1)


def _norm(site: SkipSite) -> nn.GroupNorm:
    if not isinstance(site.norm, nn.GroupNorm):
        raise SkiptuneError(f"{site.name} does not begin with a group normalisation: nothing to compare")
    return site.norm
