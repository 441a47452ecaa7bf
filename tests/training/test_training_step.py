"""One step of training by itself: what it returns, and that nothing of it outlives it."""

from __future__ import annotations

import torch
from small_training import small

from skiptune.training.step import TrainingStep


def data() -> tuple[torch.Tensor, None]:
    return torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1, None


def test_returns_all_gradients_and_the_loss() -> None:
    torch.manual_seed(0)
    take = TrainingStep(small(dropout=0.0), torch.device("cpu"))
    first = take.objective.loss(8, data, torch.Generator().manual_seed(3))
    found = take(0, data, torch.Generator().manual_seed(3))
    assert found.numel() == sum(p.numel() for p in take.parameters.values()) + 1
    assert float(found[-1]) == float(first.detach()) and take.sound(found)
    next(iter(take.parameters.values())).data[0] = torch.inf
    assert not take.sound(found)


def test_averages_keep_no_graph_of_the_steps() -> None:
    take = TrainingStep(small(), torch.device("cpu"))
    for step in range(2):
        take(8 * step, data, torch.Generator().manual_seed(step))
    assert not any(average.requires_grad for average in take.average.values())
