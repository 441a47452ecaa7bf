from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_arrays import activations
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from skiptune.errors import SkiptuneError
from skiptune.evaluation.kernels import Polynomial
from skiptune.evaluation.kid import kid
from skiptune.evaluation.mmd import mmd


@pytest.mark.parametrize("seed", [2020, 7])
def test_parity_with_torch_fidelity(seed: int) -> None:
    x, y = activations(300, 32, 1), activations(350, 32, 2, 0.05)
    theirs = kid_features_to_metric(x, y, kid_subsets=20, kid_subset_size=100, rng_seed=seed, verbose=False)
    ours = kid(x, y, 20, 100, seed)
    assert ours.mean == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-9)
    assert ours.std == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-9)
    # On float32 features they compute in float32: kernels near 2 round by 1e-7, the value is small.
    narrow = kid_features_to_metric(
        x.float(), y.float(), kid_subsets=20, kid_subset_size=100, rng_seed=seed, verbose=False
    )
    assert kid(x.float(), y.float(), 20, 100, seed).mean == pytest.approx(
        narrow[KEY_METRIC_KID_MEAN], abs=2e-6
    )


def test_subsets_are_read_off_the_pairs_of_all_images_or_taken_one_by_one() -> None:
    """Few subsets of many images and many of few take other ways; a subset's value does not depend on it."""
    x, y = activations(700, 12, 1), activations(650, 12, 2, 0.05)
    for subsets, size in ((3, 40), (400, 40)):
        theirs = kid_features_to_metric(x, y, kid_subsets=subsets, kid_subset_size=size, verbose=False)
        ours = kid(x, y, subsets, size)
        assert ours.mean == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-9)
        assert ours.std == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-9)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_float32_products_keep_the_value(offset: float) -> None:
    """From 512 features on: within 1e-6 of torch-fidelity's float64, where its float32 is off by far more."""
    x, y = activations(400, 1024, 1, 0.05 + offset).float(), activations(400, 1024, 2, offset).float()
    exact, single = (
        kid_features_to_metric(a, b, kid_subsets=20, kid_subset_size=300, verbose=False)[KEY_METRIC_KID_MEAN]
        for a, b in ((x.double(), y.double()), (x, y))
    )
    assert kid(x, y, 20, 300).mean == pytest.approx(exact, rel=1e-6)
    assert kid(x.double(), y.double(), 20, 300).mean == pytest.approx(exact, rel=1e-9)
    assert abs(single - exact) > 1e-6 * exact


def test_far_features_keep_their_digits() -> None:
    """About 1e4 the kernel is 1e24, its differences 1e13: 80 bits hold them, torch-fidelity's 64 do not."""
    x, y = activations(60, 32, 1, 1e4 + 0.05), activations(60, 32, 2, 1e4)
    a, b = (side.numpy().astype(np.longdouble) for side in (x, y))
    aa, bb, ab = ((p @ q.T / 32 + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
    within = sum((k.sum() - np.trace(k)) / (60 * 59) for k in (aa, bb))
    assert kid(x, y, 1, 60).mean == pytest.approx(float(within - 2 * ab.mean()), rel=1e-8)


def test_invariances_and_symmetry() -> None:
    x, y = activations(90, 16, 1), activations(90, 16, 2, 0.05)
    value = kid(x, y, 1, 90).mean
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)).double())[0]
    for a, b in ((x.flip(0), y), (x @ rotation, y @ rotation), (y, x)):
        assert kid(a, b, 1, 90).mean == pytest.approx(value, rel=1e-9)


def test_one_subset_of_all_images_is_the_mmd() -> None:
    x, y = activations(60, 8, 1), activations(60, 8, 2)
    value = kid(x, y, subsets=1, subset_size=60)
    assert value.std == 0
    assert value.mean == pytest.approx(mmd(x, y, [Polynomial(3)])[0].unbiased, rel=1e-9)


def test_unbiased_over_resampling_and_growing_with_the_difference() -> None:
    sets = [kid(activations(50, 4, seed), activations(50, 4, 1000 + seed), 1, 50).mean for seed in range(300)]
    assert abs(np.mean(sets)) < 4 * np.std(sets) / np.sqrt(300)
    x = activations(200, 4, 1)
    values = [kid(x, activations(200, 4, 2, shift), 10, 100).mean for shift in (0.0, 0.2, 0.5)]
    assert values == sorted(values) and values[2] > 10 * abs(values[0])


def test_bad_input() -> None:
    x, y = activations(50, 4, 1), activations(40, 4, 2)
    with pytest.raises(SkiptuneError, match="got 50 and 40: lower subset_size"):
        kid(x, y, subset_size=45)
    with pytest.raises(SkiptuneError, match="0 subsets"):
        kid(x, y, subsets=0, subset_size=10)
    with pytest.raises(SkiptuneError, match="NaN"):
        kid(x.log() - x.log(), y, subset_size=10)
