"""Multistep UniPC, a predictor-corrector in lambda = -log sigma (Zhao et al. 2023, Algorithms 5-8)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.samplers.state import Denoise, NoiseAt, Sampler, SamplerState
from skiptune.samplers.unipc_weights import VARIANTS, difference_weights


@dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC in EDM coordinates: alpha = 1, sigma(t) = t. NFE = number of steps: each level but the last.

    A VP model needs no other solver: the update commutes with the scaling x -> alpha x, so VP trajectories
    are these, on the levels sigma / alpha, times alpha.

    Step k evaluates at level k, corrects the sample there with that very evaluation, then predicts level
    k + 1. So `state.x` is a prediction; history holds the corrected sample of the level before, then the
    outputs, newest first. A final level 0 means denoise-to-zero: the last step is one evaluation, whose
    output is the sample.

    order: 1, 2 or 3. variant: see `difference_weights`. prediction: "data" or "noise", what is extrapolated.
    lower_order_final: end with orders ..., 2, 1. Raises SkiptuneError for other values.
    """

    order: int = 3
    variant: str = "bh2"
    corrector: bool = True
    lower_order_final: bool = True
    prediction: str = "data"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise SkiptuneError(f"the order of UniPC is 1, 2 or 3, got {self.order}")
        if self.variant not in VARIANTS:
            raise SkiptuneError(f"unknown variant {self.variant!r} of UniPC: choose {', '.join(VARIANTS)}")
        if self.prediction not in ("data", "noise"):
            raise SkiptuneError(f"unknown prediction {self.prediction!r} of UniPC: choose data or noise")
        if self.num_steps == 1 and self.sigmas[1] == 0:
            raise SkiptuneError("UniPC needs at least 2 noise levels above 0: raise the number of steps")

    def step(self, denoise: Denoise, state: SamplerState, noise_at: NoiseAt | None = None) -> SamplerState:
        self._check_unfinished(state)
        k, x = state.step, state.x
        x0 = denoise(x, self.sigmas[k]).to(torch.float64)
        if self.sigmas[k + 1] == 0:
            return SamplerState(x0, k + 1, (x, x0))
        output = x0 if self.prediction == "data" else (x - x0) / self.sigmas[k]
        if self.corrector and k > 0:
            x = self._update(state.history[0], state.history[1:], k - 1, output)
        outputs = (output, *state.history[1:])[: self.order]
        return SamplerState(self._update(x, outputs, k), k + 1, (x, *outputs))

    def order_at(self, k: int) -> int:
        """Order of the step from level k: rises from 1; falls to 1 at the end if lower_order_final."""
        steps = self.num_steps - int(self.sigmas[-1] == 0)
        return min(k + 1, self.order, steps - k if self.lower_order_final else self.order)

    def _update(self, x: Tensor, outputs: tuple[Tensor, ...], k: int, newest: Tensor | None = None) -> Tensor:
        """Level k -> k + 1 from outputs at levels k, k - 1, ...; with `newest`, of level k + 1, corrector."""
        sigma, sigma_next = float(self.sigmas[k]), float(self.sigmas[k + 1])
        h = math.log(sigma / sigma_next)
        ratios = [math.log(sigma / float(self.sigmas[k - i])) / h for i in range(1, self.order_at(k))]
        differences = [(outputs[i] - outputs[0]) / ratio for i, ratio in enumerate(ratios, start=1)]
        if newest is not None:
            differences.append(newest - outputs[0])
        # Data prediction integrates e^lambda D, noise prediction e^-lambda eps: h changes its sign.
        if self.prediction == "data":
            h, keep, unit = -h, sigma_next / sigma, 1.0
        else:
            keep, unit = 1.0, sigma_next
        x_next = keep * x - unit * math.expm1(h) * outputs[0]
        for weight, difference in zip(
            difference_weights(ratios, h, self.variant, newest is not None), differences, strict=True
        ):
            x_next = x_next - unit * weight * difference
        return x_next
