"""One encoder pass for several interventions on the decoder, where the network is called with equal inputs.

What a U-Net computes before its first skip site does not depend on coefficients that act at the sites. So one
call can leave those results for others, with equal bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from skiptune.interventions.sites import find_skip_sites, inner_networks


class EncoderMemory:
    """Results of the blocks that a network calls before its first skip site.

    >>> memory = EncoderMemory(denoiser)
    >>> with memory.recording(), first.attached_to(denoiser):
    ...     a = denoiser(x, sigma)
    >>> with memory.replaying(), second.attached_to(denoiser):
    ...     b = denoiser(x, sigma)  # the same x and sigma

    Raises:
        SkiptuneError: a network of no known family.
    """

    def __init__(self, network: nn.Module):
        self.first_site = find_skip_sites(network)[0].block
        self.blocks = tuple(called_by(inner_networks(network)[-1][1]))
        self.results: list[tuple[nn.Module, Any]] = []

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Keep the results of the first call inside the ``with`` block, up to the first site."""
        self.results.clear()
        closed = False

        def close(*_: Any) -> None:
            nonlocal closed
            closed = True

        def keep(block: nn.Module, _: tuple[Any, ...], output: Any) -> None:
            if not closed:
                self.results.append((block, output))

        handles = [self.first_site.register_forward_pre_hook(close)]
        handles += [block.register_forward_hook(keep) for block in self.blocks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def replaying(self) -> Iterator[None]:
        """Give the kept results in the first call inside the ``with`` block; later calls compute anew."""
        waiting: dict[nn.Module, list[Any]] = {}
        for block, output in self.results:
            waiting.setdefault(block, []).append(output)
        try:
            for block in waiting:
                # nn.Module.__call__ looks up `forward` on the instance first.
                block.forward = _given(waiting[block], block.forward)
            yield
        finally:
            for block in waiting:
                del block.forward


def called_by(network: nn.Module) -> Iterator[nn.Module]:
    """The modules that a network's own ``forward`` calls: children, through containers without one."""
    for child in network.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from called_by(child)
        else:
            yield child


def _given(outputs: list[Any], forward: Callable[..., Any]) -> Callable[..., Any]:
    queue = iter(outputs)

    def give(*args: Any, **kwargs: Any) -> Any:
        for output in queue:
            return output
        return forward(*args, **kwargs)

    return give
