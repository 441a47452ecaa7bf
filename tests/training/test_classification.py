from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import dataset_features, load_extractor
from skiptune.training.augmentation import random_affine
from skiptune.training.classification import (
    ClassifierTraining,
    learning_rate_factor,
    train_and_save,
    train_classifier,
)

SHORT = ClassifierTraining.desk("digits_cnn", epochs=2, images=600)


def test_training_learns_saves_and_loads(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    settings = ClassifierTraining.desk("digits_cnn", epochs=6)
    record = train_and_save(settings, tmp_path, lambda step, total, loss: steps.append((step, total)))
    assert record["heldout_accuracy"] > 0.7 and record["training_images"] == 1501
    assert steps[0] == (1, 6 * 23) and steps[-1] == (6 * 23, 6 * 23)
    assert json.loads((tmp_path / "digits_cnn.json").read_text()) == record
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits_cnn.json", "digits_cnn.safetensors"]
    extractor = load_extractor("digits_cnn", tmp_path)
    kept = dataset_features(extractor, load_dataset("digits"), range(296), "heldout")
    assert (kept.logits.argmax(1) == kept.labels).double().mean() == record["heldout_accuracy"]


def test_seed_determines_the_weights() -> None:
    state = torch.random.get_rng_state()
    first, again = train_classifier(SHORT), train_classifier(SHORT)
    other = train_classifier(ClassifierTraining.desk("digits_cnn", epochs=2, images=600, seed=1))
    weights = [x.network.state_dict()["head.weight"] for x in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert first.record["loss_curve"] == again.record["loss_curve"]
    assert torch.equal(state, torch.random.get_rng_state())  # the global generator is left alone


def test_learning_rate_rises_then_falls() -> None:
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == 1 and factors[10:] == sorted(factors[10:], reverse=True) and factors[-1] < 0.001


def test_random_affine_moves_by_pixels() -> None:
    image = torch.full((1, 1, 8, 8), -1.0)
    image[..., 4, 4] = 1
    generator = torch.Generator().manual_seed(0)
    moved = random_affine(image.expand(200, 1, 8, 8), generator, shift=1.0)
    mass = (moved + 1).sum((1, 2, 3)) / 2
    column = ((moved + 1).sum((1, 2)) * torch.arange(8)).sum(1) / 2
    torch.testing.assert_close(mass, torch.ones(200))
    assert 0.9 < (column - 4).abs().max() <= 1.0 + 1e-5
    turned = random_affine(image.expand(50, 1, 8, 8), generator, rotation=20.0)
    assert turned.std(0).max() > 0 and turned.min() >= -1 - 1e-5
    assert random_affine(image, generator) is image


def test_errors() -> None:
    with pytest.raises(SkiptuneError, match="no desk classifier 'cifar_cnn'"):
        ClassifierTraining.desk("cifar_cnn")
    with pytest.raises(SkiptuneError, match="unknown architecture 'VGG'"):
        train_classifier(ClassifierTraining.desk("digits_cnn", architecture="VGG"))
    with pytest.raises(SkiptuneError, match="no step"):
        train_classifier(ClassifierTraining.desk("digits_cnn", batch_size=2000))
