from __future__ import annotations

import pytest
import torch

from skiptune.data import load_dataset
from skiptune.data.images import from_uint8, to_uint8
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import FeatureExtractor, dataset_features, load_extractor
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.frechet import frechet_distance
from skiptune.evaluation.metrics import METRICS, Reference, block_values, compute_metrics
from skiptune.evaluation.statistics import GaussianStatistics


@pytest.fixture(scope="module", params=["glyphs", "digits"])
def scene(request: pytest.FixtureRequest) -> tuple[FeatureExtractor, Reference, torch.Tensor, torch.Tensor]:
    extractor = load_extractor(f"{request.param}_cnn")
    dataset = load_dataset(request.param)
    reference = Reference.from_features(dataset_features(extractor, dataset, range(1000), "reference"))
    images, labels = dataset.batch(range(240), "heldout")
    return extractor, reference, images, labels


def measure(extractor, reference, images, labels) -> dict[str, float]:
    sample = FeatureSet(**extractor(images), labels=labels)
    return compute_metrics(["fid", "accuracy"], sample, reference)


def test_direction_more_noise_is_worse(scene) -> None:
    extractor, reference, images, labels = scene
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    rows = [
        measure(extractor, reference, to_uint8(from_uint8(images) + level * noise), labels)
        for level in (0.0, 0.1, 0.3, 1.0)
    ]
    fids, accuracies = [row["fid"] for row in rows], [row["accuracy"] for row in rows]
    assert fids == sorted(fids) and fids[-1] > 3 * fids[0]
    assert accuracies[0] > 0.95 and accuracies[-1] < accuracies[0] - 0.1
    assert METRICS["fid"].lower_is_better and not METRICS["accuracy"].lower_is_better


def test_direction_blur_and_lost_classes_are_worse(scene) -> None:
    extractor, reference, images, labels = scene
    clean = measure(extractor, reference, images, labels)["fid"]
    blurred = to_uint8(torch.nn.functional.avg_pool2d(from_uint8(images), 3, 1, 1))
    half = torch.nonzero(labels < labels.max() // 2).flatten()
    few = half.repeat(240 // len(half) + 1)[:240]  # as many images, from half of the classes
    assert measure(extractor, reference, blurred, labels)["fid"] > 1.3 * clean
    assert measure(extractor, reference, images[few], labels[few])["fid"] > 1.3 * clean


def test_fid_is_the_frechet_distance_to_the_reference(scene) -> None:
    extractor, reference, images, labels = scene
    sample = FeatureSet(**extractor(images), labels=labels)
    assert reference.features is not None
    expected = frechet_distance(
        GaussianStatistics.from_features(sample.features),
        GaussianStatistics.from_features(reference.features.features),
    )
    assert compute_metrics(["fid"], sample, reference)["fid"] == expected
    blocks = block_values("fid", sample, reference, 3)
    assert len(blocks) == 3 and min(blocks) > expected  # fewer images, more bias


def one_hot_set(classes: list[int], labels: list[int] | None) -> FeatureSet:
    logits = torch.nn.functional.one_hot(torch.tensor(classes), 4).float()
    return FeatureSet(logits, logits, None if labels is None else torch.tensor(labels))


def test_accuracy_counts_and_needs_labels() -> None:
    reference = Reference.from_features(one_hot_set([0, 1, 2, 3], None))
    sample = one_hot_set([0, 1, 2, 3], [0, 1, 2, 0])
    assert compute_metrics(["accuracy"], sample, reference) == {"accuracy": 0.75}
    with pytest.raises(SkiptuneError, match="labels"):
        compute_metrics(["accuracy"], one_hot_set([0], None), reference)


def test_unknown_metric_lists_the_known_ones() -> None:
    sample = one_hot_set([0, 1], None)
    with pytest.raises(SkiptuneError, match="'fidd'.*accuracy.*fid"):
        compute_metrics(["fid", "fidd"], sample, Reference.from_features(sample))


def test_feature_sets_join_and_part() -> None:
    whole = one_hot_set([0, 1, 2, 3], [3, 2, 1, 0])
    again = FeatureSet.cat(whole.blocks(2))
    assert again.labels is not None and again.labels.tolist() == [3, 2, 1, 0]
    assert torch.equal(again.features, whole.features) and len(again) == 4
    with pytest.raises(SkiptuneError, match="3 equal blocks"):
        whole.blocks(3)
    with pytest.raises(SkiptuneError, match="labels"):
        FeatureSet.cat([whole, one_hot_set([0], None)])
    with pytest.raises(SkiptuneError, match="length"):
        FeatureSet(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(3))
