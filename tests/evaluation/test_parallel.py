from __future__ import annotations

import pytest
import torch
from feature_arrays import activations

from skiptune.errors import SkiptuneError
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.metrics import METRICS, Reference, compute_metrics
from skiptune.evaluation.parallel import compute_with_workers
from skiptune.runtime.workers import Workers, one_thread


def feature_set(n: int, seed: int, shift: float, labelled: bool = True) -> FeatureSet:
    features = activations(n, 24, seed, shift).float()
    return FeatureSet(features, features[:, :5], torch.arange(n) % 5 if labelled else None)


def test_one_and_two_workers_find_the_same_bits_in_one_pool() -> None:
    sample, real = feature_set(1300, 1, 0.05), feature_set(1200, 2, 0.0)
    with one_thread():
        expected = compute_metrics(list(METRICS), sample, Reference.from_features(real))
    with Workers(1) as one:
        alone = compute_with_workers(list(METRICS), sample, real, one)
    with Workers(2) as two:
        assert compute_with_workers(list(METRICS), sample, real, two) == alone
        pair = compute_with_workers(["kid", "precision_recall"], sample, real, two)
        with pytest.raises(
            SkiptuneError, match="accuracy needs the labels"
        ):  # in one worker, the other waits
            compute_with_workers(["accuracy", "kid"], feature_set(1300, 1, 0.05, False), real, two)
        assert compute_with_workers(["kid", "precision_recall"], sample, real, two) == pair
    assert alone == pytest.approx(expected, rel=1e-12)
    assert pair == {name: alone[name] for name in ("kid", "precision", "recall")}


def test_unknown_metrics_are_refused_before_any_work() -> None:
    sample = feature_set(10, 1, 0.0)
    with Workers(1) as workers, pytest.raises(SkiptuneError, match="'kidd'"):
        compute_with_workers(["kidd"], sample, sample, workers)
