"""Stochastic sampling between the probability-flow ODE and the reverse SDE (Skip-Tuning, section 5.5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.ddim import Ancestral
from skiptune.samplers.state import Denoise, NoiseAt, SamplerState


@dataclass(frozen=True)
class SDE(Ancestral):
    """The family ``dx = [f x - g^2 s / 2] dt - tau^2 g^2 s / 2 dt + tau g dw``, s the score, constant tau.

    tau = 0 is the ODE, tau = 1 the reverse SDE, and a larger tau adds and removes more noise. In EDM's
    variables f = 0, sigma(t) = t, so g^2 = d(sigma^2)/dt = 2 sigma, and s = (D - x) / sigma^2, hence

        dx = (1 + tau^2) (x - D) / sigma dsigma + tau sqrt(2 sigma) dw,    sigma falling.

    A step from sigma to sigma' holds D = D(x, sigma) fixed. The rest is linear in y = x - D and is solved
    exactly: the drift alone gives y r^(1 + tau^2) with r = sigma'/sigma, and noise that enters at level u
    shrinks by (sigma'/u)^(1 + tau^2) until sigma'. With m = 1 + tau^2, its variance is

        int_{sigma'}^{sigma} 2 tau^2 u (sigma'/u)^(2 m) du = sigma'^2 (1 - r^(2 tau^2)).

    So ``x' = D + r^(1 + tau^2) (x - D) + sigma' sqrt(1 - r^(2 tau^2)) n``: finite for every tau and step, and
    the noise level after it is exactly sigma', since sigma^2 r^(2 m) + sigma'^2 (1 - r^(2 tau^2)) = sigma'^2.
    tau = 0 is Euler's step and tau = 1 DDIM's with eta = 1, both equal up to rounding of float64. The step to
    level 0 returns D. NFE = number of steps.

    order 1 is this; its variance of Gaussian data falls short by a term of first order that grows with tau.
    order 2 puts ``D + h / (2 h_before) (D - D_before)`` in the place of D, with h the steps in log sigma and
    the estimate of the step before (DPM-Solver++ 2M, Lu et al. 2022, with this noise); the first step and the
    one to level 0 stay of order 1.

    Raises SkiptuneError for tau that is negative or not finite, another order, or noise in an inversion.
    """

    tau: float = 1.0
    order: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tau < math.inf:
            raise SkiptuneError(f"tau of the SDE is at least 0 and finite, got {self.tau}")
        if self.order not in (1, 2):
            raise SkiptuneError(f"the order of the SDE's step is 1 or 2, got {self.order}")
        if self.ascending and self.tau > 0:
            raise SkiptuneError("an inversion cannot add noise: set tau to 0")

    @cached_property
    def keep(self) -> Tensor:
        return (self.sigmas[1:] / self.sigmas[:-1]) ** (1 + self.tau**2)

    @cached_property
    def spread(self) -> Tensor:
        ratio = self.sigmas[1:] / self.sigmas[:-1]
        return self.sigmas[1:] * (1 - ratio ** (2 * self.tau**2)).sqrt()

    @cached_property
    def trend(self) -> Tensor:
        """[num_steps] float64: how much of the last change of D a step continues; 0 in steps of order 1."""
        h = (self.sigmas[:-1] / self.sigmas[1:]).log()
        trend = torch.zeros_like(h)
        if self.order == 2:
            trend[1:] = h[1:] / (2 * h[:-1])
        return torch.where(self.sigmas[1:] > 0, trend, 0.0)

    def step(self, denoise: Denoise, state: SamplerState, noise_at: NoiseAt | None = None) -> SamplerState:
        self._check_unfinished(state)
        x0 = self.estimate(denoise, state.x, self.sigmas[state.step])
        ahead = x0
        if state.history and self.trend[state.step] > 0:
            ahead = x0 + self.trend[state.step] * (x0 - state.history[0])
        after = super().step(lambda *_: ahead, state, noise_at)
        return SamplerState(after.x, after.step, (x0,) if self.order == 2 else ())
