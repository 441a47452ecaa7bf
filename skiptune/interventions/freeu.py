"""FreeU: re-weigh backbone and skip features of the lowest decoder stages (Si et al. 2023, eq. 3-8)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.attachment import hooked
from skiptune.interventions.sites import SkipSite, find_skip_sites

VARIANTS = ("constant", "map")
GROUPS = ("stage", "width")


@dataclass(frozen=True)
class FreeU:
    """Scale half of the backbone channels by ``b``, and the lowest frequencies of the skips by ``s``.

    >>> with FreeU(b1=1.4, b2=1.6, s1=0.9, s2=0.2).attached_to(pipe.unet):
    ...     images = pipe(prompt).images

    Of the tokens of a transformer the patches are treated as an image; the others stay as they are.

    Attributes:
        b1, b2: factors of the first half of the backbone channels in the first and in the second group of
            sites, from the bottom; other groups stay as they are. 1 leaves the output bit-identical.
        s1, s2: factors of the skips' frequencies -1 and 0 in both directions, likewise.
        variant: ``constant`` multiplies by ``b`` as diffusers does, ``map`` by ``1 + (b - 1) m`` as the
            official code, with ``m`` the backbone's mean over the channels, stretched to [0, 1] per image.
        by: what groups the sites: ``stage``, the resolution (diffusers), or ``width``, the number of backbone
            channels, widest first (official code).
    """

    b1: float = 1.0
    b2: float = 1.0
    s1: float = 1.0
    s2: float = 1.0
    variant: str = "constant"
    by: str = "stage"

    def __post_init__(self) -> None:
        for name in ("b1", "b2", "s1", "s2"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise SkiptuneError(f"{name} of FreeU is {value!r}, it must be a finite number from 0 up")
        for name, choices in (("variant", VARIANTS), ("by", GROUPS)):
            if getattr(self, name) not in choices:
                raise SkiptuneError(
                    f"unknown {name} {getattr(self, name)!r} of FreeU; choose one of {', '.join(choices)}"
                )

    @property
    def factors(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """``(b, s)`` of the first and of the second group."""
        return (self.b1, self.s1), (self.b2, self.s2)

    @contextlib.contextmanager
    def attached_to(self, network: nn.Module, sites: Sequence[SkipSite] | None = None) -> Iterator[None]:
        """Act on ``network`` inside the ``with`` block; leaving it restores the network.

        Args:
            network: a U-Net of a known family, or a denoiser or wrapper with one inside.
            sites: where to act; all sites of the network unless given.

        Raises:
            SkiptuneError: a network of no known family, or with one group of sites where two have factors;
                when called, a network that goes past a site, or a site of another width than it was given.
        """
        sites = find_skip_sites(network) if sites is None else sites
        group = self.groups(sites)
        if 1 not in group.values() and self.factors[1] != (1, 1):
            raise SkiptuneError(
                f"FreeU by {self.by}: the network has one group of sites, so b2 and s2 stay 1"
            )
        acting = [
            site for site in sites if group[site.index] < 2 and self.factors[group[site.index]] != (1, 1)
        ]

        def register(site: SkipSite) -> Any:
            b, s = self.factors[group[site.index]]

            def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
                return self.apply(args[0], site, b, s), *args[1:]

            return [site.block.register_forward_pre_hook(hook)]

        with hooked(network, acting, register):
            yield

    def groups(self, sites: Sequence[SkipSite]) -> Mapping[int, int]:
        """Group of every site by its index: 0 for the first, counting from the bottom."""
        key = {site.index: site.stage if self.by == "stage" else -site.u_channels for site in sites}
        order = sorted(set(key.values()))
        return {index: order.index(value) for index, value in key.items()}

    def apply(self, x: Tensor, site: SkipSite, b: float, s: float) -> Tensor:
        """The concatenation re-weighed; in place where it is for one block and no gradient is asked for."""
        site.check(x)
        x = x.clone() if torch.is_grad_enabled() or not site.exclusive else x
        images = as_images(x, site)
        u, d = images[:, : site.u_channels], images[:, site.u_channels :]
        if b != 1:
            factor: Tensor | float = b if self.variant == "constant" else 1 + (b - 1) * channel_mean_map(u)
            u[:, : site.u_channels // 2].mul_(factor)
        if s != 1:
            d.copy_(scale_low_frequencies(d, s))
        return x


def as_images(x: Tensor, site: SkipSite) -> Tensor:
    """View ``[N, u + d, H, W]`` of a concatenation; of tokens, the patches.

    Raises:
        SkiptuneError: the patches do not form a square.
    """
    if site.channel_dim == 1:
        return x
    if site.resolution is None:
        raise SkiptuneError(f"FreeU needs patches that form a square image, those of {site.name} do not")
    side = site.resolution
    return x[:, x.shape[1] - side**2 :].transpose(1, 2).unflatten(2, (side, side))


def channel_mean_map(u: Tensor) -> Tensor:
    """``[N, 1, H, W]`` in [0, 1]: mean over the channels, stretched between its extremes (eq. 4)."""
    mean = u.mean(dim=1, keepdim=True)
    low, high = mean.amin(dim=(2, 3), keepdim=True), mean.amax(dim=(2, 3), keepdim=True)
    return (mean - low) / (high - low)


def scale_low_frequencies(d: Tensor, s: float) -> Tensor:
    """``d`` ``[N, C, H, W]`` with the frequencies -1 and 0 of both directions times ``s`` (eq. 6-8).

    The square is the official one; without the frequency +1 it is not symmetric, hence the real part.
    """
    frequencies = torch.fft.fft2(d.to(torch.float32))  # half precision has no transform of every size
    low = torch.tensor([-1, 0], device=d.device)
    frequencies[..., low[:, None], low] *= s
    return torch.fft.ifft2(frequencies).real.to(d.dtype)
