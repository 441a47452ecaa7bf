"""Noise levels of a trajectory, in float64: functions that compute them, and the values a sampler holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.schedules import VP


class HasNoiseLevels(Protocol):
    """What a grid asks of a denoiser: its range of sigma and its own discrete levels."""

    sigma_min: float
    sigma_max: float

    def round_sigma(self, sigma: Tensor) -> Tensor: ...


def _fractions(num_levels: int, sigma_min: float, sigma_max: float) -> Tensor:
    """[num_levels] from 0 to 1 (a single level: 0, i.e. sigma_max), after checking the arguments."""
    if num_levels < 1:
        raise SkiptuneError(f"a noise grid needs at least 1 level, got {num_levels}: use more steps")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise SkiptuneError(
            f"noise levels need 0 < sigma_min < sigma_max < inf, got {sigma_min} and {sigma_max}"
        )
    return torch.arange(num_levels, dtype=torch.float64) / max(num_levels - 1, 1)


def karras_grid(
    num_levels: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """Uniform in sigma^(1/rho) from sigma_max to sigma_min (EDM, Karras et al. 2022, eq. 5, no final 0).

    rho = 1 is time-uniform and rho = 2 time-quadratic, for sigma(t) = t. Returns [num_levels] float64.
    Raises SkiptuneError for fewer than 1 level, an empty range, or rho <= 0.
    """
    fractions = _fractions(num_levels, sigma_min, sigma_max)
    if not rho > 0:
        raise SkiptuneError(f"rho of a Karras grid must be positive, got {rho}")
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (top + fractions * (bottom - top)) ** rho


def log_snr_grid(num_levels: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Tensor:
    """Uniform in log sigma, hence in log-SNR (DPM-Solver; also the VE discretisation of EDM's Table 1)."""
    fractions = _fractions(num_levels, sigma_min, sigma_max)
    return sigma_max * (sigma_min / sigma_max) ** fractions


def vp_grid(num_levels: int, sigma_min: float, sigma_max: float, epsilon: float = 1e-3) -> Tensor:
    """Uniform in the time of the VP schedule through (epsilon, sigma_min), (1, sigma_max) (EDM, Table 1)."""
    fractions = _fractions(num_levels, sigma_min, sigma_max)
    return VP.through(sigma_min, sigma_max, epsilon).sigma(1 + fractions * (epsilon - 1))


def iddpm_grid(
    num_levels: int,
    sigma_min: float,
    sigma_max: float,
    c1: float = 0.001,
    c2: float = 0.008,
    total: int = 1000,
) -> Tensor:
    """Evenly spread members of the `total` levels u_j of improved DDPM inside the range (EDM, Table 1)."""
    fractions = _fractions(num_levels, sigma_min, sigma_max)
    # Cosines in float32, as in EDM's sampler: in float64 the lowest levels differ by 5e-4 of themselves.
    signal = (0.5 * math.pi * torch.arange(total + 1, device="cpu") / total / (c2 + 1)).sin() ** 2
    u = [0.0]
    for ratio in (signal[:-1] / signal[1:]).clip(min=c1).flip(0).tolist():
        u.append(math.sqrt((u[-1] ** 2 + 1) / ratio - 1))
    inside = [level for level in reversed(u) if sigma_min <= level <= sigma_max]
    if not inside:
        raise SkiptuneError(f"improved DDPM has no level in [{sigma_min}, {sigma_max}]: widen the range")
    return torch.tensor(inside, dtype=torch.float64)[((len(inside) - 1) * fractions).round().long()]


GRIDS: dict[str, Callable[..., Tensor]] = {
    "karras": karras_grid, "log_snr": log_snr_grid, "vp": vp_grid, "iddpm": iddpm_grid,
}  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """Explicit noise levels, in the order in which they are visited."""

    values: tuple[float, ...]

    @cached_property
    def sigmas(self) -> Tensor:
        """[number of levels], float64."""
        return torch.tensor(self.values, dtype=torch.float64)

    def fitted(self, denoiser: HasNoiseLevels) -> Levels:
        """The levels rounded to those of the denoiser. Raises SkiptuneError if one lies outside its range."""
        low, high = float(denoiser.sigma_min), float(denoiser.sigma_max)
        for level in self.values:
            # The margin lets the denoiser's own limits pass, which may be stored in float32.
            if level != 0 and not low * (1 - 1e-6) <= level <= high * (1 + 1e-6):
                raise SkiptuneError(f"noise level {level:g} is outside the denoiser's [{low:g}, {high:g}]")
        rounded = torch.as_tensor(denoiser.round_sigma(self.sigmas)).to("cpu", torch.float64)
        return Levels(tuple(torch.where(self.sigmas == 0, 0.0, rounded).tolist()))

    def reversed(self) -> Levels:
        """Visited the other way. A level 0 is left out: the probability-flow ODE is singular there."""
        return Levels(tuple(level for level in self.values[::-1] if level != 0))


@dataclass(frozen=True)
class Grid:
    """A rule for noise levels: `kind` is a key of GRIDS, `rho` applies to "karras" only.

    zero: append a final level 0 (EDM). ascending: from sigma_min to sigma_max, for inversion.
    """

    num_levels: int
    kind: str = "karras"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    zero: bool = False
    ascending: bool = False

    @cached_property
    def sigmas(self) -> Tensor:
        """[num_levels + zero], float64. Raises SkiptuneError for an unknown kind or wrong numbers."""
        if self.kind not in GRIDS:
            raise SkiptuneError(f"unknown noise grid {self.kind!r}: choose one of {', '.join(sorted(GRIDS))}")
        shape = {"rho": self.rho} if self.kind == "karras" else {}
        sigmas = GRIDS[self.kind](self.num_levels, self.sigma_min, self.sigma_max, **shape)
        if self.zero:
            sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
        return sigmas.flip(0) if self.ascending else sigmas

    def fitted(self, denoiser: HasNoiseLevels) -> Levels:
        """Range clipped to the denoiser's first, levels rounded to the denoiser's last (EDM's sampler)."""
        low = max(self.sigma_min, float(denoiser.sigma_min))
        high = min(self.sigma_max, float(denoiser.sigma_max))
        return Levels(tuple(replace(self, sigma_min=low, sigma_max=high).sigmas.tolist())).fitted(denoiser)

    def reversed(self) -> Grid:
        """Visited the other way, without the level 0."""
        return replace(self, ascending=not self.ascending, zero=False)
