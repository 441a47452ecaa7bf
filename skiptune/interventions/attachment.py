"""What interventions on named places share: hooks inside a ``with`` block, and no silence where they miss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from torch import nn

from skiptune.errors import SkiptuneError


class Place(Protocol):
    """A skip site or a transformer: a module by its path inside the network."""

    @property
    def name(self) -> str: ...

    @property
    def block(self) -> nn.Module: ...


class Handle(Protocol):
    """What was done to a module and can be undone."""

    def remove(self) -> None: ...


P = TypeVar("P", bound=Place)


@contextlib.contextmanager
def hooked(
    network: nn.Module,
    sites: Sequence[P],
    register: Callable[[P], Iterable[Handle]],
    what: str = "skip sites",
) -> Iterator[None]:
    """Register hooks at every site of ``network`` inside the ``with`` block.

    Leaving the block restores the network, exceptions included.

    Raises:
        SkiptuneError: a call of ``network`` went past a site, so the intervention did not act there.
    """
    reached = Reached(sites, what)
    handles: list[Handle] = [network.register_forward_hook(reached.check)]
    try:
        for i, site in enumerate(sites):
            handles.append(site.block.register_forward_pre_hook(reached.at(i)))
            handles += register(site)
        yield
    finally:
        for handle in handles:
            handle.remove()


class Reached:
    """Which sites the current call of the network has come by."""

    def __init__(self, sites: Sequence[Place], what: str):
        self.sites, self.what = sites, what
        self.seen = [False] * len(sites)

    def at(self, i: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self.seen[i] = True

        return hook

    def check(self, network: nn.Module, *_: Any) -> None:
        missed = [site.name for site, seen in zip(self.sites, self.seen, strict=True) if not seen]
        self.seen[:] = [False] * len(self.seen)
        if missed:
            raise SkiptuneError(
                f"{type(network).__name__} did not call {len(missed)} of its {len(self.sites)} {self.what} "
                f"({missed[0]} first), so nothing can act there: compile a network after attaching"
            )
