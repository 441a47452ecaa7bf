"""The factors of S2-DM's skip-step loss on a discrete schedule, and what that loss can do at its optimum.

S2-DMs, "Skip-Step Diffusion Models", section 3 and Algorithm 1. The paper contradicts itself in four places
(ambiguities S2-A1 to S2-A4 of the reference data); every reading can be chosen. Times are counted from 0
here, from 1 in the paper: index ``i`` is its ``t = i + 1``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError

READINGS = {
    "weights": ("eq13", "algorithm1"),
    "alpha": ("per_step", "schedule"),
    "early": ("truncate", "exclude", "drop"),
    "factor": ("eq12", "eq11"),
}


@dataclass(frozen=True)
class SkipStep:
    """``L = tau L_0 + (1 - tau) L_skip``, ``L_skip = mean (n - c_t eps)^2`` (Eq. 12 and 13), in one reading.

    Attributes:
        skip: number of steps that ``alpha_skip`` spans, 1 or more.
        tau: weight in [0, 1].
        weights: ``eq13`` gives ``tau`` to L_0, ``algorithm1`` to L_skip (S2-A1).
        alpha: ``alpha_skip`` is a product of ``per_step`` values ``abar_t / abar_(t-1)``, or of the values of
            the ``schedule`` itself, which is the symbol without bar read as cumulative everywhere, or with
            the schedule ``linear_per_step`` as per step everywhere (S2-A2).
        early: where ``t < skip`` the product is ``truncate``d at the first step, such times are ``exclude``d
            from training, or L_skip is ``drop``ped there and ``tau L_0`` left (S2-A3).
        factor: ``c_t = sqrt(1 - alpha_skip) / sqrt(alpha_skip)`` (``eq12``), or over ``sqrt(1 - alpha_t)``
            (``eq11``) (S2-A4).

    Raises:
        SkiptuneError: a value out of its range, an unknown reading.
    """

    skip: int = 10
    tau: float = 0.99
    weights: str = "eq13"
    alpha: str = "per_step"
    early: str = "truncate"
    factor: str = "eq12"

    def __post_init__(self) -> None:
        if type(self.skip) is not int or self.skip < 1:
            raise SkiptuneError(f"skip is {self.skip!r}, it must be a whole number from 1")
        number = isinstance(self.tau, int | float) and not isinstance(self.tau, bool)
        if not number or not 0 <= self.tau <= 1:
            raise SkiptuneError(f"tau is {self.tau!r}, it must be a number in [0, 1]")
        for name, known in READINGS.items():
            if getattr(self, name) not in known:
                raise SkiptuneError(
                    f"unknown {name} {getattr(self, name)!r} of the skip-step loss; choose one of "
                    f"{', '.join(known)}"
                )

    def factors(self, alphas_cumprod: Tensor) -> Tensor:
        """``c_t`` ``[T]`` float64, from ``abar_t`` ``[T]``.

        Raises:
            SkiptuneError: a skip as long as the schedule, or a product too small for float64.
        """
        given = self._checked(alphas_cumprod)
        product = alpha_skip(given, self.skip, self.alpha)
        alpha = alpha_skip(given, 1, self.alpha)
        below = product if self.factor == "eq12" else 1 - alpha
        factors = ((1 - product) / below).sqrt()
        if not bool((factors**2).isfinite().all()):
            raise SkiptuneError(
                f"with alpha {self.alpha} the factor of skip {self.skip} is not finite; use alpha per_step"
            )
        return factors

    def term_weights(self, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of L_0 and of L_skip at every time, ``[T]`` float64 each."""
        count = len(self._checked(alphas_cumprod))
        first = self.tau if self.weights == "eq13" else 1 - self.tau
        plain = torch.full((count,), first, dtype=torch.float64)
        skipping = torch.full((count,), 1 - first, dtype=torch.float64)
        if self.early == "drop":
            skipping[: self.skip - 1] = 0
        return plain, skipping

    @property
    def first_time(self) -> int:
        """The first time that is trained at."""
        return self.skip - 1 if self.early == "exclude" else 0

    def loss_weights(self, alphas_cumprod: Tensor) -> Tensor:
        """``a_t`` ``[T]`` float64 of ``L = a_t (eps - s_t n)^2 + a term without eps``: the loss is quadratic
        in eps, and this is what it weighs the times with."""
        plain, skipping = self.term_weights(alphas_cumprod)
        return plain + skipping * self.factors(alphas_cumprod) ** 2

    def minimiser(self, alphas_cumprod: Tensor) -> Tensor:
        """``s_t`` ``[T]`` float64: at its optimum the network predicts ``s_t E[n | x_t]``.

        With w_0, w_skip the weights of the terms, ``s_t = (w_0 + w_skip c_t) / (w_0 + w_skip c_t^2)``. 1 at
        times that are not trained at, and where both weights are 0.
        """
        plain, skipping = self.term_weights(alphas_cumprod)
        factors, weights = self.factors(alphas_cumprod), self.loss_weights(alphas_cumprod)
        scale = torch.where(weights > 0, (plain + skipping * factors) / weights, 1.0)
        scale[: self.first_time] = 1
        return scale

    def _checked(self, alphas_cumprod: Tensor) -> Tensor:
        if self.skip >= len(alphas_cumprod):
            raise SkiptuneError(
                f"skip {self.skip} is as long as the schedule of {len(alphas_cumprod)} times; take less"
            )
        return alphas_cumprod.to("cpu", torch.float64)


def alpha_skip(alphas_cumprod: Tensor, skip: int, alpha: str = "per_step") -> Tensor:
    """``alpha_t alpha_(t-1) ... alpha_(t-skip+1)`` ``[T]`` float64, truncated at the first step.

    Of ``per_step`` values it is ``abar_t / abar_(t-skip)``, with abar 1 before the first step; of the
    ``schedule``'s own values the product of ``skip`` of them.
    """
    given = alphas_cumprod.to("cpu", torch.float64)
    logs = given.log() if alpha == "per_step" else given.log().cumsum(0)
    before = torch.cat([logs.new_zeros(min(skip, len(logs))), logs[:-skip]])
    return (logs - before).exp()
