"""Weights from scores (Eq. 7, 8) and the enumerated pruning strategies."""

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.importance import baseline_strategies, importance_weights, ranked_strategies

SD_TURBO = [[0, 1, 2, 4, 6, 5, 3], [1, 0, 5, 4, 2, 6, 3]]  # Table II


def test_weights_of_scores():
    scores = torch.tensor([1 / 7, 4 / 7, 1.0], dtype=torch.float64)
    found = importance_weights(scores, 0.98, 1.1)
    assert found.tolist() == pytest.approx([0.98 + 0.12 / 7, 0.98 + 0.48 / 7, 1.1])
    assert importance_weights(scores, 1.1, 1.1).tolist() == pytest.approx([1.1] * 3)
    assert importance_weights(scores, 0.98, 1.1, "inverted").tolist() == pytest.approx(
        [0.98 + 0.12 * 6 / 7, 0.98 + 0.12 * 3 / 7, 0.98]
    )


def test_mean_weight_of_the_arms():
    """IP-A4: inverting lowers the mean by (high - low) / m, mirroring does not."""
    m, low, high = 7, 0.98, 1.1
    scores = torch.arange(1, m + 1, dtype=torch.float64)[torch.randperm(m)] / m
    mean = {
        arm: float(importance_weights(scores, low, high, arm).mean())
        for arm in ("normal", "inverted", "mirrored")
    }
    assert mean["normal"] == pytest.approx(low + (high - low) * (m + 1) / (2 * m))
    assert mean["mirrored"] == pytest.approx(mean["normal"])
    assert mean["inverted"] == pytest.approx(mean["normal"] - (high - low) / m)
    order = importance_weights(scores, low, high, "mirrored").argsort()
    assert torch.equal(order, scores.argsort(descending=True))
    with pytest.raises(SkiptuneError, match="unknown arm 'reversed'"):
        importance_weights(scores, low, high, "reversed")


def test_strategies_of_a_ranking():
    assert set(ranked_strategies(SD_TURBO, 1)) == {((a,), (b,)) for a in (0, 1) for b in (1, 0)}
    pairs = ranked_strategies(SD_TURBO, 2)
    first, second = [(0, 1), (0, 2), (1, 2)], [(0, 1), (1, 5), (0, 5)]
    assert len(pairs) == 9 and set(pairs) == {(a, b) for a in first for b in second}
    with pytest.raises(SkiptuneError, match="7 blocks cannot be skipped at a step: choose 1 to 6"):
        ranked_strategies(SD_TURBO, 7)


def test_baselines_of_one_block():
    static = baseline_strategies(range(7), 1, 2, dynamic=False)
    assert static == [((i,), (i,)) for i in range(7)]
    dynamic = baseline_strategies(range(7), 1, 2, dynamic=True)
    assert set(dynamic) == {((i,), (j,)) for i in range(7) for j in range(7) if i != j}


def test_baselines_of_two_blocks():
    numbers = [1, 2, 3, 4, 5]  # SDXL
    static = baseline_strategies(numbers, 2, 2, dynamic=False, symmetric=True)
    assert static == [((1, 5), (1, 5)), ((2, 4), (2, 4))]
    kinds = {
        (dynamic, symmetric): baseline_strategies(range(7), 2, 2, dynamic, symmetric)
        for dynamic in (False, True)
        for symmetric in (False, True)
    }
    assert {kind: len(found) for kind, found in kinds.items()} == {
        (False, True): 3, (False, False): 21 - 3, (True, True): 3**2 - 3, (True, False): 21**2 - 21 - 6,
    }  # fmt: skip
    every = [strategy for found in kinds.values() for strategy in found]
    assert len(set(every)) == len(every) == 21**2
