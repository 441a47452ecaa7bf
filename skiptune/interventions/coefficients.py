"""Skip coefficients: rho per site and over the noise levels (Skip-Tuning, Definition 3.1, section 5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

READINGS = ("inclusive", "from_bottom", "to_top", "matching")
DIRECTIONS = ("increasing", "decreasing")
AXES = ("step", "sigma", "log_sigma")


def interpolate_rho(
    matching: Sequence[bool],
    rho_bottom: float,
    rho_top: float = 1.0,
    reading: str = "inclusive",
    bottom_first: bool = True,
) -> tuple[float, ...]:
    """One coefficient per skip site, in decoding order.

    The paper prints ``rho_i = rho_bottom + i (rho_top - rho_bottom) / k`` without the range of ``i``;
    ``reading`` says which (ambiguities ST-A1, ST-A2 of the reference data):

    * ``inclusive``: ``k - 1`` increments, both ends exact (default);
    * ``from_bottom``: ``i = 0..k-1``, the top site one increment short of ``rho_top``;
    * ``to_top``: ``i = 1..k``, the bottom site one increment above ``rho_bottom``;
    * ``matching``: inclusive over the sites whose skip and decoder widths agree, 1 at the others.

    ``bottom_first=False`` takes the full resolution as the bottom.

    Args:
        matching: for every site whether skip and decoder widths agree (``SkipSite.matching``).

    Raises:
        SkiptuneError: a coefficient outside (0, 1] or that is no number, or an unknown reading.
    """
    for name, value in (("rho_bottom", rho_bottom), ("rho_top", rho_top)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SkiptuneError(f"{name} is {value!r}, it must be a number in (0, 1]")
        if not 0 < value <= 1:
            raise SkiptuneError(
                f"{name} is {value}, it must lie in (0, 1]: 1 leaves the skip connections untouched"
            )
    if reading not in READINGS:
        raise SkiptuneError(
            f"unknown reading {reading!r} of the rho interpolation; choose one of {', '.join(READINGS)}"
        )
    taking_part = [i for i, equal in enumerate(matching) if equal or reading != "matching"]
    if not bottom_first:
        taking_part.reverse()
    k = len(taking_part)
    increments = k if reading in ("from_bottom", "to_top") else max(k - 1, 1)
    rho = [1.0] * len(matching)
    for i, site in enumerate(taking_part):
        position = (i + (reading == "to_top")) / increments
        # Equal ends give exactly that value everywhere; the upper end is not left to rounding.
        rho[site] = rho_top if position == 1 else rho_bottom + position * (rho_top - rho_bottom)
    return tuple(rho)


@dataclass(frozen=True)
class TimeSchedule:
    """How strongly Skip-Tuning acts at a noise level: weight 1 is the full coefficient, 0 is none.

    With ``s`` the position in time, 0 at the clean and 1 at the noisy end: ``increasing`` means rho grows
    from rho_0 at the clean end to 1 at the noisy end (weight ``1 - s``), ``decreasing`` the reverse (weight
    ``s``); the words follow time from 0 to T as in the paper's Table 10, not the order of sampling.

    Attributes:
        axis: what ``s`` is linear in: ``step`` (index in ``levels``), ``sigma`` or ``log_sigma`` (ambiguity
            ST-A4).
        levels: positive noise levels of the sampler, descending.
    """

    direction: str
    levels: tuple[float, ...]
    axis: str = "step"

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise SkiptuneError(
                f"unknown time direction {self.direction!r}; choose one of {', '.join(DIRECTIONS)}"
            )
        if self.axis not in AXES:
            raise SkiptuneError(f"unknown time axis {self.axis!r}; choose one of {', '.join(AXES)}")
        if (
            len(self.levels) < 2
            or any(a <= b for a, b in zip(self.levels, self.levels[1:], strict=False))
            or self.levels[-1] <= 0
        ):
            raise SkiptuneError(
                "a time schedule needs at least two positive noise levels in descending order"
            )

    def position(self, sigma: Tensor) -> Tensor:
        """``s`` in [0, 1], same shape as ``sigma``."""
        levels = torch.tensor(self.levels, dtype=torch.float64, device=sigma.device)
        sigma = sigma.to(torch.float64).clip(levels[-1], levels[0])
        if self.axis == "sigma":
            return (sigma - levels[-1]) / (levels[0] - levels[-1])
        log, knots = sigma.log(), levels.log()
        if self.axis == "log_sigma":
            return (log - knots[-1]) / (knots[0] - knots[-1])
        ascending = knots.flip(0).contiguous()
        upper = torch.searchsorted(ascending, log.contiguous()).clip(1, len(ascending) - 1)
        low, high = ascending[upper - 1], ascending[upper]
        return (upper - 1 + (log - low) / (high - low)) / (len(ascending) - 1)

    def weight(self, sigma: Tensor) -> Tensor:
        """Weight in [0, 1], same shape as ``sigma``, float64."""
        s = self.position(sigma)
        return s if self.direction == "decreasing" else 1 - s


@dataclass(frozen=True)
class Window:
    """Skip-Tuning inside ``[sigma_low, sigma_high]`` only (Skip-Tuning, Figure 7)."""

    sigma_low: float
    sigma_high: float

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_low <= self.sigma_high:
            raise SkiptuneError(
                f"window [{self.sigma_low}, {self.sigma_high}] is empty; give 0 <= sigma_low <= sigma_high"
            )

    def weight(self, sigma: Tensor) -> Tensor:
        """1 inside, 0 outside, same shape as ``sigma``, float64."""
        sigma = sigma.to(torch.float64)
        return ((sigma >= self.sigma_low) & (sigma <= self.sigma_high)).to(torch.float64)
