"""Features that look like pooled activations; also the script of the test with two processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor


def activations(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    """n rows of d features, float64, not negative, correlated; one mixing, so that sets differ by `shift`."""
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    mixing = mixing * torch.exp(-torch.linspace(0, 3, d, dtype=torch.float64))[:, None]
    noise = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (noise @ mixing).relu() + shift


def team_main(path: str) -> None:
    from skiptune.evaluation.blocks import Team
    from skiptune.evaluation.features import FeatureSet
    from skiptune.evaluation.kernels import RBF, Energy
    from skiptune.evaluation.kid import kid
    from skiptune.evaluation.metrics import METRICS, Reference, compute_metrics
    from skiptune.evaluation.mmd import mmd
    from skiptune.evaluation.precision_recall import precision_recall

    torch.set_num_threads(1)
    team = Team.of_world()
    x, y = activations(300, 16, 1), activations(250, 16, 2, 0.05)
    sample = FeatureSet(x, x[:, :5], torch.zeros(len(x), dtype=torch.long))
    real = FeatureSet(y, y[:, :5])
    found = {
        "prc": vars(precision_recall(x, y, block=64, team=team)),
        "mmd": [vars(value) for value in mmd(x, y, [RBF(2.0), Energy()], block=64, team=team)],
        "kid": [vars(kid(x, y, subsets, 20, team=team)) for subsets in (3, 500)],
        "all": compute_metrics(list(METRICS), sample, Reference.from_features(real), team),
    }
    Path(f"{path}.{team.rank}").write_text(json.dumps({"size": team.size, **found}))


if __name__ == "__main__":
    team_main(sys.argv[1])
