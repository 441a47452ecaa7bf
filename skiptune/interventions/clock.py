"""The noise level of the network call that is under way, for schedules over time."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.coefficients import TimeSchedule, Window
from skiptune.interventions.sites.find import search


@contextlib.contextmanager
def following(
    network: nn.Module,
    read: Callable[[Tensor | None], None],
    sigma_of: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Inside the ``with`` block call ``read(sigma)`` before every call of ``network``, ``read(None)`` after.

    The noise level is read from the innermost ``D(x, sigma)``, which guidance evaluates on a larger batch
    than its own; with ``sigma_of``, from the U-Net, whose time (second argument) it maps to sigma. A network
    of no known family, whose places are named by hand, is itself what is called.

    Raises:
        SkiptuneError: nothing in ``network`` is called with ``sigma``, or the U-Net with no time.
    """
    modules = [module for _, module in search(network)] or [network]
    if sigma_of is None:
        modules = [module for module in modules if "sigma" in arguments(module)]
        if not modules:
            raise SkiptuneError(
                f"a schedule over steps needs noise levels, {type(network).__name__} is not called with "
                "sigma: attach to a denoiser D(x, sigma), or give sigma_of, the sigma of its time"
            )
        name = "sigma"
    elif len(names := arguments(modules[-1])) < 2:
        raise SkiptuneError(
            f"a schedule over steps needs a time, {type(modules[-1]).__name__} is called without"
        )
    else:
        name = names[1]
    module = modules[-1]

    def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        time = torch.as_tensor(args[1] if len(args) > 1 else kwargs[name])
        read(time if sigma_of is None else torch.as_tensor(sigma_of(time)))

    def end(*_: Any) -> None:
        """A noise level is valid during its call only."""
        read(None)

    handles = [
        module.register_forward_pre_hook(begin, with_kwargs=True),
        module.register_forward_hook(end),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class SigmaClock:
    """Weight of the current call: the product of the schedules at its noise level."""

    def __init__(self, schedules: Sequence[TimeSchedule | Window]):
        self.schedules = schedules
        self.current: Tensor | None = None

    @contextlib.contextmanager
    def running(
        self, network: nn.Module, sigma_of: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[None]:
        """Follow the calls of ``network`` inside the ``with`` block; arguments as of ``following``.

        Raises:
            SkiptuneError: schedules, but nothing in ``network`` is called with ``sigma``.
        """
        if not self.schedules:
            yield
            return
        with following(network, self.read, sigma_of):
            yield

    def read(self, sigma: Tensor | None) -> None:
        """A call at this noise level begins; with ``None`` one ends."""
        if sigma is None:
            self.current = None
            return
        weight = torch.ones_like(sigma, dtype=torch.float64)
        for schedule in self.schedules:
            weight = weight * schedule.weight(sigma)
        self.current = weight

    @property
    def weight(self) -> Tensor | None:
        """``[]``, ``[1]`` or ``[N]`` float64, up to trailing ones; ``None`` without schedules, where the
        coefficients act in full."""
        if self.schedules and self.current is None:
            raise SkiptuneError(
                "a schedule of Skip-Tuning needs the noise level: call the denoiser, not its inner network"
            )
        return self.current


def arguments(module: nn.Module) -> list[str]:
    """Names of what the module is called with."""
    return list(inspect.signature(module.forward).parameters)
