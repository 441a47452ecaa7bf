from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skiptune.data import digits as module
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError

digits = load_dataset("digits")


def test_images_are_scikit_learns() -> None:
    raw = load_digits()
    images, labels = digits.batch(range(1797), "reference")
    assert images.shape == (1797, 1, 8, 8) and images.dtype == torch.uint8 and labels.dtype == torch.int64
    np.testing.assert_allclose(images[:, 0].double().numpy() * 16 / 255, raw.images, atol=0.5 * 16 / 255)
    assert (labels.numpy() == raw.target).all() and images.min() == 0 and images.max() == 255


def test_seed_is_taken_modulo_the_size() -> None:
    for split in module.SPLITS:
        size = digits.size(split)
        assert torch.equal(digits.batch([3, 5], split)[0], digits.batch([3 + size, 5 + 7 * size], split)[0])


def test_classifier_splits_part_the_images_evenly() -> None:
    train, held_out = digits.size("features"), digits.size("heldout")
    assert (train, held_out) == (1501, 296) and digits.size("train") == digits.size("reference") == 1797
    features = {x.numpy().tobytes() for x in digits.batch(range(train), "features")[0]}
    heldout = {x.numpy().tobytes() for x in digits.batch(range(held_out), "heldout")[0]}
    assert not features & heldout
    classes = torch.bincount(digits.batch(range(held_out), "heldout")[1])
    assert classes.tolist() == [29, 30, 29, 30, 30, 30, 30, 29, 29, 30]


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SkiptuneError, match="no split 'test'.*heldout"):
        digits.batch([0], "test")
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(SkiptuneError, match="install"):
        module.Digits()
