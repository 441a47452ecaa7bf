"""One pass through the beginning of a network for several interventions that act later in it.

What a U-Net computes before the first place where interventions act is the same for all of them, where the
network is called with equal inputs. So one call can leave those results for others, with equal bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from skiptune.interventions.forwarding import StandIn
from skiptune.interventions.sites import inner_networks


class PrefixMemory:
    """Results of the modules that a network calls before the first of the modules ``until``.

    >>> memory = PrefixMemory(denoiser, [find_skip_sites(denoiser)[0].block])
    >>> with memory.recording(), first.attached_to(denoiser):
    ...     a = denoiser(x, sigma)
    >>> with memory.replaying(), second.attached_to(denoiser):
    ...     b = denoiser(x, sigma)  # the same x and sigma

    Raises:
        SkiptuneError: a network of no known family.
    """

    def __init__(self, network: nn.Module, until: Sequence[nn.Module]):
        self.until = tuple(until)
        self.network = inner_networks(network)[-1][1]
        self.blocks = tuple(prefix_modules(self.network, self.until))
        self.results: list[tuple[nn.Module, Any]] = []
        self.batch = 0

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Keep the results of the first call inside the ``with`` block, up to the first of ``until``."""
        self.results.clear()
        self.batch = 0
        closed = False

        def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not closed:
                self.batch = len(args[0] if args else next(iter(kwargs.values())))

        def close(*_: Any) -> None:
            nonlocal closed
            closed = True

        def keep(block: nn.Module, _: tuple[Any, ...], output: Any) -> None:
            if not closed:
                self.results.append((block, output))

        handles = [self.network.register_forward_pre_hook(begin, with_kwargs=True)]
        handles += [module.register_forward_pre_hook(close) for module in self.until]
        handles += [block.register_forward_hook(keep) for block in self.blocks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextlib.contextmanager
    def replaying(self, rows: Tensor | None = None, of: int = 0) -> Iterator[None]:
        """Give the kept results in the first call inside the ``with`` block; later calls compute anew.

        Args:
            rows: images ``[B]`` int64 of the recorded call that the images of the replaying call are equal
                to, where these are others; then results that are no rows of the batch are computed anew.
            of: images in the recorded call, which guidance may have doubled inside.
        """
        waiting: dict[nn.Module, list[Any]] = {}
        for block, output in self.results:
            if rows is None:
                waiting.setdefault(block, []).append(output)
            elif in_rows(output, self.batch):
                waiting.setdefault(block, []).append(taken(output, rows, of))
        stand_ins = [StandIn(block, _given(outputs, block.forward)) for block, outputs in waiting.items()]
        try:
            yield
        finally:
            for stand_in in stand_ins:
                stand_in.remove()


def prefix_modules(network: nn.Module, until: Sequence[nn.Module]) -> Iterator[nn.Module]:
    """What the network's own ``forward`` calls, and that of every module with one of ``until`` inside."""
    for child in called_by(network):
        if child not in until:
            yield child
            if any(module in until for module in child.modules()):
                yield from prefix_modules(child, until)


def called_by(network: nn.Module) -> Iterator[nn.Module]:
    """The modules that a network's own ``forward`` calls: children, through containers without one."""
    for child in network.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from called_by(child)
        else:
            yield child


def in_rows(output: Any, batch: int) -> bool:
    """Whether every tensor of a module's output has one row for each image of the batch."""
    if isinstance(output, tuple | list):
        return all(in_rows(item, batch) for item in output)
    return isinstance(output, Tensor) and len(output) == batch


def taken(output: Any, rows: Tensor, of: int) -> Any:
    """The rows of the ``of`` images, in every copy of them that the batch holds."""
    if isinstance(output, tuple | list):
        return type(output)([taken(item, rows, of) for item in output])
    return output.unflatten(0, (-1, of))[:, rows.to(output.device)].flatten(0, 1)


def _given(outputs: list[Any], forward: Callable[..., Any]) -> Callable[..., Any]:
    queue = iter(outputs)

    def give(*args: Any, **kwargs: Any) -> Any:
        for output in queue:
            return output
        return forward(*args, **kwargs)

    return give
