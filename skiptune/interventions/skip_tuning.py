"""Skip-Tuning: scale the skips of a trained U-Net while sampling (Ma et al. 2024, Definition 3.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skiptune.errors import SkiptuneError
from skiptune.interventions.attachment import hooked
from skiptune.interventions.clock import SigmaClock
from skiptune.interventions.coefficients import TimeSchedule, Window, interpolate_rho
from skiptune.interventions.sites import SkipSite, find_skip_sites

PLACES = ("input", "residual", "norm0_input", "norm0_output")
Rule = Callable[[Sequence[bool]], Sequence[float]]
"""Coefficients from whether skip and decoder widths agree, site by site (``SkipSite.matching``)."""


@dataclass(frozen=True)
class SkipTuning:
    """Multiply the skip features ``d_i`` of every site by ``rho_i``, at one place of the decoder block.

    >>> with SkipTuning.interpolated(rho_bottom=0.8).attached_to(pipe.unet):
    ...     images = pipe(prompt).images

    Attributes:
        rho: one positive factor per site, bottom to top, or the rule that gives them for a network. 1
            everywhere gives bit-identical outputs.
        place: ``input`` scales the concatenation itself (the method); Appendix C's variants act on one path
            of the block: ``residual`` on the shortcut only, ``norm0_input`` and ``norm0_output`` before or
            after the first normalisation.
        schedules: factors in [0, 1] as functions of sigma; with their product ``w`` the coefficient is
            ``1 + w (rho_i - 1)``.
    """

    rho: tuple[float, ...] | Rule
    place: str = "input"
    schedules: tuple[TimeSchedule | Window, ...] = ()

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise SkiptuneError(
                f"unknown place {self.place!r} for Skip-Tuning; choose one of {', '.join(PLACES)}"
            )
        if not callable(self.rho):
            refuse_bad_coefficients(self.rho)

    @classmethod
    def interpolated(
        cls,
        rho_bottom: float,
        rho_top: float = 1.0,
        reading: str = "inclusive",
        bottom_first: bool = True,
        place: str = "input",
        schedules: tuple[TimeSchedule | Window, ...] = (),
    ) -> SkipTuning:
        """From ``rho_bottom`` to ``rho_top`` over however many sites the network has (``interpolate_rho``).

        Raises:
            SkiptuneError: a coefficient outside (0, 1], an unknown reading or place.
        """
        interpolate_rho([], rho_bottom, rho_top, reading)  # refuses mistakes now, not when attached
        rule = partial(
            interpolate_rho,
            rho_bottom=rho_bottom,
            rho_top=rho_top,
            reading=reading,
            bottom_first=bottom_first,
        )
        return cls(rule, place, schedules)

    def coefficients(self, sites: Sequence[SkipSite]) -> tuple[float, ...]:
        """``rho`` for these sites.

        Raises:
            SkiptuneError: another number of sites than coefficients, or a rule gave one that is not positive.
        """
        rho = self.rho([site.matching for site in sites]) if callable(self.rho) else self.rho
        if len(sites) != len(rho):
            raise SkiptuneError(f"{len(rho)} skip coefficients for a network with {len(sites)} skip sites")
        refuse_bad_coefficients(rho)
        return tuple(rho)

    @contextlib.contextmanager
    def attached_to(
        self,
        network: nn.Module,
        sites: Sequence[SkipSite] | None = None,
        sigma_of: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[None]:
        """Act on ``network`` inside the ``with`` block.

        Leaving the block restores the network, exceptions included; blocks inside each other multiply.
        A network that is to be compiled is compiled after attaching.

        Args:
            network: a U-Net of a known family, or a denoiser or wrapper with one inside.
            sites: where to act; all sites of the network unless given.
            sigma_of: noise level of a network's time, for schedules on a network that is not inside of a
                denoiser ``D(x, sigma)``, such as a diffusers U-Net.

        Raises:
            SkiptuneError: a network of no known family, another number of sites than coefficients, a place
                that the network's blocks do not have, schedules without noise levels; when called, a network
                that goes past a site, or a site of another width than it was given.
        """
        sites = find_skip_sites(network) if sites is None else sites
        scales = {}
        clock = SigmaClock(self.schedules)
        for site, rho in zip(sites, self.coefficients(sites), strict=True):
            refuse_missing_place(self.place, site)
            scales[site.index] = Scale(site, rho, clock)
        with (
            clock.running(network, sigma_of),
            hooked(network, sites, lambda site: place_hooks(self.place, site, scales[site.index])),
        ):
            yield


def refuse_bad_coefficients(rho: Sequence[float]) -> None:
    try:
        bad = any(not 0 < value < float("inf") for value in rho)
    except TypeError:  # one number, or text
        raise SkiptuneError(
            f"rho is {rho!r}, it must be a number for every skip site, from bottom to top; "
            "SkipTuning.interpolated(rho_bottom=...) makes them from the one at the bottom"
        ) from None
    if bad:
        raise SkiptuneError(f"skip coefficients must be positive and finite, got {tuple(rho)}")


def refuse_missing_place(place: str, site: SkipSite) -> None:
    """Not every family's block has every path of Appendix C."""
    missing = site.norm is None and (place.startswith("norm0") or site.shortcut is None)
    if place != "input" and missing:
        path = "residual path" if place == "residual" else "normalisation at its beginning"
        raise SkiptuneError(
            f"place {place!r} of Skip-Tuning does not exist here, {site.name} has no {path}; use 'input'"
        )


class Scale:
    """Multiplies the ``d_channels`` channels by the site's coefficient at the current noise level."""

    def __init__(self, site: SkipSite, rho: float, clock: SigmaClock):
        self.site, self.clock = site, clock
        change = torch.zeros(site.u_channels + site.d_channels, dtype=torch.float64)
        change[site.u_channels :] = rho - 1
        shape = (1, -1, 1, 1) if site.channel_dim == 1 else (1, 1, -1)
        # On the device of the block from the start: a copy at every call would make the GPU wait.
        parameter = next(site.block.parameters(), None)
        self.change = change.reshape(shape).to("cpu" if parameter is None else parameter.device)

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.factor(x)

    def in_place(self, x: Tensor) -> Tensor:
        """The same without a copy, for a concatenation that was made for this block alone."""
        if torch.is_grad_enabled() or not self.site.exclusive:
            return self(x)
        self.site.split(x)[1].mul_(self.site.split(self.factor(x))[1])
        return x

    def factor(self, x: Tensor) -> Tensor:
        """``[1 or N, u + d, 1, 1]``, for tokens ``[1 or N, 1, u + d]``, of the type and device of ``x``."""
        self.site.check(x)
        weight, change = self.clock.weight, self.change.to(x.device)
        if weight is not None:
            change = weight.to(x.device).reshape(-1, *[1] * (x.dim() - 1)) * change
        return (1 + change).to(x.dtype)


def place_hooks(place: str, site: SkipSite, scale: Scale) -> list[RemovableHandle]:
    """Register the hooks of one site, which has the place; returns their handles."""
    if place == "input":
        return [site.block.register_forward_pre_hook(lambda _, args: (scale.in_place(args[0]), *args[1:]))]
    if place == "residual" and site.shortcut is not None:
        return [site.shortcut.register_forward_pre_hook(lambda _, args: (scale(args[0]), *args[1:]))]
    assert site.norm is not None
    if place == "norm0_input":
        return [site.norm.register_forward_pre_hook(lambda _, args: (scale(args[0]), *args[1:]))]
    if place == "norm0_output":
        return [site.norm.register_forward_hook(lambda _, args, output: scale(output))]
    # Without a layer to hook, the block is given the scaled input and its norm the original, before other
    # scalings of the norm. (Inside of such a block's residual scaling an ``input`` scaling would be lost to
    # the norm; attach that one first.)
    original: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        original[:] = [args[0]]
        return (scale(args[0]), *args[1:])

    return [
        site.block.register_forward_pre_hook(enter),
        site.norm.register_forward_pre_hook(lambda _, args: (original.pop(), *args[1:]), prepend=True),
    ]
