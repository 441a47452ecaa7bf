from __future__ import annotations

import pytest
import torch
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from skiptune.errors import SkiptuneError
from skiptune.evaluation.inception_score import inception_score


def logits(n: int, classes: int, scale: float) -> torch.Tensor:
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n", "splits", "scale"), [(503, 10, 1.0), (200, 1, 5.0), (64, 7, 0.1)])
@pytest.mark.parametrize("seed", [2020, None])
def test_parity_with_torch_fidelity(n: int, splits: int, scale: float, seed: int | None) -> None:
    theirs = isc_features_to_metric(logits(n, 20, scale), splits, seed is not None, seed)
    ours = inception_score(logits(n, 20, scale), splits, seed)
    assert ours.mean == pytest.approx(theirs[KEY_METRIC_ISC_MEAN], rel=1e-12)
    assert ours.std == pytest.approx(theirs[KEY_METRIC_ISC_STD], rel=1e-9, abs=1e-12)


def test_bounds() -> None:
    certain = 1e4 * torch.eye(8).repeat(5, 1)  # every class, each without doubt: the other chances are 0
    assert inception_score(certain, 1).mean == pytest.approx(8)
    assert inception_score(torch.zeros(40, 8)).mean == pytest.approx(1)


def test_bad_input() -> None:
    with pytest.raises(SkiptuneError, match="10 splits, got 9"):
        inception_score(logits(9, 4, 1.0))
    with pytest.raises(SkiptuneError, match="NaN"):
        inception_score(torch.full((20, 3), float("nan")))
    with pytest.raises(SkiptuneError, match="0 splits"):
        inception_score(logits(9, 4, 1.0), 0)
