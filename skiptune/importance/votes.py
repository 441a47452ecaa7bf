"""Votes over independent runs, importance scores and rankings (Importance Probe, Sec. III-D, Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from skiptune.importance.draws import uniform
from skiptune.importance.settings import ProbeSettings


@dataclass(frozen=True, eq=False)
class Importance:
    """How important every block is at every step.

    Attributes:
        votes: ``vs`` ``[S, m]`` int64: the sum over runs of the block's position, from 1 for the least
            important.
        runs: r.
    """

    votes: Tensor
    runs: int

    @classmethod
    def of_thresholds(cls, thresholds: Tensor, settings: ProbeSettings) -> Self:
        """From final thresholds ``[R, S, m]`` of a probe: a higher one is a less important block (IP-A7)."""
        runs, steps, blocks = thresholds.shape
        noise = settings.tie_noise
        ties = [uniform(-noise, noise, (steps, blocks), settings.seed, "tie", run) for run in range(runs)]
        return cls(positions(-(thresholds + torch.stack(ties))).sum(dim=0), runs)

    @classmethod
    def of_errors(cls, errors: Tensor) -> Self:
        """From errors ``[R, S, m]`` of R samples: a block whose loss does more harm is more important."""
        return cls(positions(errors).sum(dim=0), len(errors))

    @property
    def scores(self) -> Tensor:
        """Eq. 6: ``is = vs / (m r)`` in [1/m, 1], ``[S, m]`` float64."""
        return self.votes.to(torch.float64) / (self.votes.shape[-1] * self.runs)

    def ranking(self, numbers: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Block numbers of every step, least important first; equal votes in the order of the blocks."""
        order = self.votes.argsort(dim=-1, stable=True).tolist()
        return tuple(tuple(numbers[block] for block in step) for step in order)


def positions(importance: Tensor) -> Tensor:
    """Place of every block in ascending order, from 1; ``[..., m]`` int64, equal ones in the given order."""
    return importance.argsort(dim=-1, stable=True).argsort(dim=-1) + 1
