"""Energy, fitness and thresholds of the Importance Probe (Sec. III-C, Eq. 5): pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from skiptune.importance.settings import Ramp, Shares, ThresholdRule


def ramp(ends: Ramp, position: float) -> float:
    """Linear from the first value at 0 to the second at 1."""
    first, last = ends
    return first + (last - first) * position


def over_steps(ends: Ramp, step: int, steps: int) -> float:
    """The ramp at an inference step; a single step has the first value."""
    return ramp(ends, step / (steps - 1) if steps > 1 else 0.0)


def energy(weights: Tensor) -> Tensor:
    """``E(w) = sum_i w_i^2``; ``[..., m] -> [...]``."""
    return weights.square().sum(dim=-1)


def below_threshold(weights: Tensor, thresholds: Tensor, margin: float) -> Tensor:
    """Blocks to be skipped, bool ``[..., m]``: weight below threshold by more than a margin."""
    return weights + margin < thresholds


def fitness(weights: Tensor, skipped: Tensor, reference: Tensor) -> Tensor:
    """Eq. 5: ``E_0 / E(w)`` plus the share of skipped blocks; ``[..., m] -> [...]``, ``reference`` is E_0."""
    return reference / energy(weights) + skipped.to(weights.dtype).mean(dim=-1)


def updated_thresholds(
    rule: ThresholdRule, thresholds: Tensor, weights: Tensor, accepted: Tensor, progress: float
) -> Tensor:
    """New thresholds ``[..., m]``.

    Args:
        weights: those in force, ``[..., m]``: of the accepted set, of the best so far where none was.
        accepted: whether a set was, bool ``[...]``.
        progress: share of the iterations done, this one included, in (0, 1].
    """

    def expected(shares: Shares) -> Tensor:
        high, right, low = (ramp(ends, progress) for ends in shares)
        return high * rule.fall * thresholds + right * thresholds + low * (weights - rule.gap)

    new = torch.where(accepted[..., None], expected(rule.accepted), expected(rule.rejected))
    return new.clamp(0, 1)
