"""What two independent rankings of the blocks say, prompt by prompt (Table II, IP-C4 to IP-C7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import rankdata
from torch import Tensor

from experiments.importance_probe.ranking_run import RankingRun
from skiptune.importance import rank_agreement
from skiptune.runtime.seed_chunks import NUMERICS, AnyRun


@dataclass(frozen=True)
class RankFacts:
    """Of every image (its prompt): ``scores`` ``[N, S, m]`` of the first ranking, ``numbers`` of the blocks
    ``[N, m]``, and

    - ``tau_repeat``: Kendall's tau between the two at one step, mean over the steps; ``tau_steps``: between
      the first step of one and the last of the other, mean over both ways; ``tau_excess``: their difference;
    - ``decoder_<k>_<s>``: 1 if the decoder block of the k-th pair from outside has the higher score at step
      s, 0 if the lower, 1/2 if they are equal; ``decoder``: the mean over pairs and steps;
    - ``middle_<s>``: whether the middle block is among the two most important; ``middle``: the mean;
    - ``rise_outer``, ``rise_inner``: change of the mean position from the first step to the last, of the
      outermost pair (the highest resolution) and of the pairs between it and the middle.
    """

    first: RankingRun
    second: RankingRun

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "facts of rankings",
            "numerics": NUMERICS,
            "first": self.first.resolved(),
            "second": self.second.resolved(),
        }

    @property
    def inputs(self) -> Mapping[str, AnyRun]:
        return {"first": self.first, "second": self.second}

    def build(self, seeds: range, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        scores, again = inputs["first"]["scores"], inputs["second"]["scores"]
        found = {name: inputs["first"][name] for name in ("nfe", "scores", "numbers")}
        found |= agreement(scores, again)
        found |= symmetric_pairs(scores)
        found |= middle_block(scores)
        if scores.shape[1] > 1:
            found |= changes(scores)
        return found


def places(scores: Tensor) -> Tensor:
    """Ranks along the blocks from 1, float64; equal scores share the mean of theirs."""
    return torch.from_numpy(rankdata(scores.numpy(), axis=-1))


def agreement(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Kendall's tau between rankings ``[N, S, m]``, of one step and of the first and last."""
    steps = range(a.shape[1])
    repeat = torch.stack([rank_agreement(a[:, s], b[:, s]) for s in steps]).mean(dim=0)
    if len(steps) == 1:
        return {"tau_repeat": repeat}
    across = (rank_agreement(a[:, 0], b[:, -1]) + rank_agreement(a[:, -1], b[:, 0])) / 2
    return {"tau_repeat": repeat, "tau_steps": across, "tau_excess": across - repeat}


def symmetric_pairs(scores: Tensor) -> dict[str, Tensor]:
    """Whether decoder blocks outrank encoder blocks of the same resolution."""
    found: dict[str, Tensor] = {}
    for k in range(scores.shape[-1] // 2):
        higher = (scores[..., -1 - k] - scores[..., k]).sign() / 2 + 0.5
        found |= {f"decoder_{k}_{s}": higher[:, s].double() for s in range(scores.shape[1])}
    return found | {"decoder": torch.stack(list(found.values())).mean(dim=0)}


def middle_block(scores: Tensor) -> dict[str, Tensor]:
    """Whether the middle block is among the two most important, at every step."""
    middle = scores.shape[-1] // 2
    above = (scores > scores[..., middle : middle + 1]).sum(dim=-1)
    found = {f"middle_{s}": (above[:, s] < 2).double() for s in range(scores.shape[1])}
    return found | {"middle": torch.stack(list(found.values())).mean(dim=0)}


def changes(scores: Tensor) -> dict[str, Tensor]:
    """Change of mean positions from the first step to the last."""
    place = places(scores)
    change = place[:, -1] - place[:, 0]
    blocks = change.shape[-1]
    outer, inner = [0, blocks - 1], inner_pairs(blocks)
    return {"rise_outer": change[:, outer].mean(dim=1), "rise_inner": change[:, inner].mean(dim=1)}


def inner_pairs(blocks: int) -> Sequence[int]:
    """Blocks of the symmetric pairs but the outermost, without the middle."""
    return [i for i in range(1, blocks - 1) if i != blocks // 2]
