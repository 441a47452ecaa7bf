"""Skip-Tuning: scale the skips of a trained U-Net while sampling (Ma et al. 2024, Definition 3.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.coefficients import TimeSchedule, Window
from skiptune.interventions.sites import SkipSite

PLACES = ("input", "residual", "norm0_input", "norm0_output")


@dataclass(frozen=True)
class SkipTuning:
    """Multiply the skip features ``d_i`` of every site by ``rho_i``, at one place of the decoder block.

    Attributes:
        rho: one positive factor per site, bottom to top. 1 everywhere gives bit-identical outputs.
        place: ``input`` scales the concatenation itself (the method); Appendix C's variants act on one path
            of the block: ``residual`` on the shortcut only, ``norm0_input`` and ``norm0_output`` before or
            after the first normalisation.
        schedules: factors in [0, 1] as functions of sigma; with their product ``w`` the coefficient is
            ``1 + w (rho_i - 1)``.
    """

    rho: tuple[float, ...]
    place: str = "input"
    schedules: tuple[TimeSchedule | Window, ...] = ()

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise SkiptuneError(
                f"unknown place {self.place!r} for Skip-Tuning; choose one of {', '.join(PLACES)}"
            )
        if any(not 0 < value < float("inf") for value in self.rho):
            raise SkiptuneError(f"skip coefficients must be positive and finite, got {self.rho}")

    @contextlib.contextmanager
    def attach(self, denoiser: nn.Module, sites: Sequence[SkipSite]) -> Iterator[None]:
        """Act on ``sites`` of ``denoiser`` inside the ``with`` block.

        Leaving the block restores the network, exceptions included; blocks inside each other multiply.
        A network that is to be compiled is compiled after attaching.

        Raises:
            SkiptuneError: another number of sites than coefficients.
        """
        if len(sites) != len(self.rho):
            raise SkiptuneError(
                f"{len(self.rho)} skip coefficients for a network with {len(sites)} skip sites"
            )
        clock = SigmaClock(self.schedules)
        handles = []
        try:
            if self.schedules:
                handles.append(denoiser.register_forward_pre_hook(clock.read, with_kwargs=True))
                handles.append(denoiser.register_forward_hook(clock.forget))
            for site, rho in zip(sites, self.rho, strict=True):
                handles += place_hooks(self.place, site, Scale(site, rho, clock))
            yield
        finally:
            for handle in handles:
                handle.remove()


class SigmaClock:
    """Weight of the current denoiser call, read from its noise level."""

    def __init__(self, schedules: Sequence[TimeSchedule | Window]):
        self.schedules = schedules
        self.current: Tensor | None = None

    def read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sigma = torch.as_tensor(args[1] if len(args) > 1 else kwargs["sigma"]).reshape(-1, 1, 1, 1)
        weight = torch.ones_like(sigma, dtype=torch.float64)
        for schedule in self.schedules:
            weight = weight * schedule.weight(sigma)
        self.current = weight

    def forget(self, *_: Any) -> None:
        """A noise level is valid during its call only."""
        self.current = None

    @property
    def weight(self) -> Tensor | None:
        """``[1 or N, 1, 1, 1]`` float64; ``None`` without schedules, where the coefficients act in full."""
        if self.schedules and self.current is None:
            raise SkiptuneError(
                "a schedule of Skip-Tuning needs the noise level: call the denoiser, not its inner network"
            )
        return self.current


class Scale:
    """Multiplies the last ``d_channels`` channels by the site's coefficient at the current noise level."""

    def __init__(self, site: SkipSite, rho: float, clock: SigmaClock):
        self.u_channels = site.u_channels
        change = torch.zeros(1, site.u_channels + site.d_channels, 1, 1, dtype=torch.float64)
        change[:, site.u_channels :] = rho - 1
        # On the device of the block from the start: a copy at every call would make the GPU wait.
        parameter = next(site.block.parameters(), None)
        self.change = change if parameter is None else change.to(parameter.device)
        self.clock = clock

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.factor(x)

    def in_place(self, x: Tensor) -> Tensor:
        """The same without a copy, for a concatenation: it was made for this block alone."""
        if torch.is_grad_enabled():
            return self(x)
        x[:, self.u_channels :].mul_(self.factor(x)[:, self.u_channels :])
        return x

    def factor(self, x: Tensor) -> Tensor:
        """``[1 or N, u + d, 1, 1]`` in the type and on the device of ``x``."""
        weight, change = self.clock.weight, self.change.to(x.device)
        factor = 1 + change if weight is None else 1 + weight.to(x.device) * change
        return factor.to(x.dtype)


def place_hooks(place: str, site: SkipSite, scale: Scale) -> list[Any]:
    """Register the hooks of one site; returns their handles."""
    if place == "input":
        return [site.block.register_forward_pre_hook(lambda _, args: (scale.in_place(args[0]), *args[1:]))]
    if place == "norm0_input":
        return [site.norm.register_forward_pre_hook(lambda _, args: (scale(args[0]), *args[1:]))]
    if place == "norm0_output":
        return [site.norm.register_forward_hook(lambda _, args, output: scale(output))]
    if site.shortcut is not None:
        return [site.shortcut.register_forward_pre_hook(lambda _, args: (scale(args[0]), *args[1:]))]
    # Without a layer to hook, the block is given the scaled input and norm0 the original, before other
    # scalings of norm0. (Inside of such a block's residual scaling an ``input`` scaling would be lost to
    # norm0; attach that one first.)
    original: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        original[:] = [args[0]]
        return (scale(args[0]), *args[1:])

    return [
        site.block.register_forward_pre_hook(enter),
        site.norm.register_forward_pre_hook(lambda _, args: (original.pop(), *args[1:]), prepend=True),
    ]
