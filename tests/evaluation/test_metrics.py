from __future__ import annotations

import pytest
import torch
from feature_arrays import activations

from skiptune.data import load_dataset
from skiptune.data.images import from_uint8, to_uint8
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import FeatureExtractor, dataset_features, load_extractor
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.frechet import frechet_distance
from skiptune.evaluation.inception_score import inception_score
from skiptune.evaluation.kernels import KERNELS, make_kernel
from skiptune.evaluation.kid import kid
from skiptune.evaluation.metrics import (
    METRICS,
    NEEDS,
    Reference,
    block_values,
    check_metrics,
    compute_metrics,
    expand,
)
from skiptune.evaluation.mmd import cmmd, mmd
from skiptune.evaluation.precision_recall import precision_recall
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


def feature_set(n: int, d: int, seed: int, shift: float = 0.0) -> FeatureSet:
    features = activations(n, d, seed, shift).float()
    return FeatureSet(features, features[:, :5], torch.zeros(n, dtype=torch.long))


def test_every_metric_is_its_function_and_knows_its_direction() -> None:
    real, sample = feature_set(300, 16, 1), feature_set(250, 16, 2, 0.05)
    reference = Reference.from_features(real)
    values = compute_metrics([*METRICS, "precision_recall"], sample, reference)
    assert list(values) == list(METRICS)
    x, y = sample.features, real.features
    prc = precision_recall(x, y)
    assert (values["precision"], values["recall"]) == (prc.precision, prc.recall)
    assert values["kid"] == kid(x, y, subset_size=250).mean
    assert values["is"] == inception_score(sample.logits).mean
    assert values["cmmd"] == cmmd(x, y)
    for name in KERNELS:
        assert values[f"mmd_{name}"] == mmd(x, y, [make_kernel(name, y)])[0].unbiased
    assert values["mmd"] == values["mmd_rbf_median"]
    assert values["immd"] == pytest.approx(1000 * values["mmd_rbf_10"], rel=1e-9)
    for name, metric in METRICS.items():
        assert metric.compute(sample, reference) == pytest.approx(values[name], rel=1e-9)
    far = compute_metrics(list(METRICS), feature_set(250, 16, 2, 0.5), reference)
    for name in ("fid", "fid_inf", "kid", "mmd", "immd", "cmmd", "precision", "recall"):
        assert (far[name] > values[name]) == METRICS[name].lower_is_better, name


def test_what_is_missing_is_said_before_anything_is_sampled() -> None:
    check_metrics(["fid", "precision_recall", "mmd"], {"reference_features"})
    check_metrics(list(METRICS), set(NEEDS))
    for name, available, message in (
        ("precision_recall", {"labels", "logits"}, "precision needs the features of the reference"),
        ("kid", {"logits"}, "kid needs the features of the reference"),
        ("accuracy", {"logits"}, "accuracy needs the labels"),
        ("is", {"labels"}, "is needs the logits"),
        ("precisoin", set(NEEDS), "'precisoin'.*precision_recall"),
    ):
        with pytest.raises(SkiptuneError, match=message):
            check_metrics(["fid", name], available)
    assert expand(["recall", "precision_recall", "fid", "fid"]) == ["recall", "precision", "fid"]


def test_statistics_alone_allow_fid_and_nothing_that_needs_features() -> None:
    sample = feature_set(100, 8, 1)
    reference = Reference(Reference.from_features(feature_set(100, 8, 2)).gaussian)
    assert compute_metrics(["fid", "is", "fid_inf"], sample, reference)["fid"] > 0
    for name in ("precision", "recall", "kid", "mmd", "immd", "cmmd", "mmd_energy"):
        assert METRICS[name].needs == {"reference_features"}
        with pytest.raises(SkiptuneError, match="features of the reference"):
            compute_metrics([name], sample, reference)
    silent = FeatureSet(sample.features, torch.zeros(100, 0), sample.labels)
    for name in ("is", "accuracy"):
        with pytest.raises(SkiptuneError, match="needs the logits"):
            compute_metrics([name], silent, reference)


def test_fewer_images_than_features_is_said_in_one_line_once(caplog: pytest.LogCaptureFixture) -> None:
    sample, reference = feature_set(21, 32, 1), Reference.from_features(feature_set(30, 32, 2))
    values = [compute_metrics(["fid"], sample, reference)["fid"] for _ in range(2)]
    assert values[0] == values[1] > 0
    (record,) = caplog.records
    assert "21 images with 32 features" in record.getMessage() and "\n" not in record.getMessage()


def test_five_metrics_of_one_pass() -> None:
    real, sample = feature_set(300, 16, 1), feature_set(250, 16, 2)
    values = compute_metrics(["fid", "is", "precision_recall", "kid"], sample, Reference.from_features(real))
    assert list(values) == ["fid", "is", "precision", "recall", "kid"]
