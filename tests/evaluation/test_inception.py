from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from sample_images import pictures, relative
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from skiptune.errors import SkiptuneError
from skiptune.evaluation import GaussianStatistics, frechet_distance, load_extractor
from skiptune.evaluation.extractors import FeatureExtractor, extractor_digest
from skiptune.evaluation.extractors.inception import clean_resize
from skiptune.evaluation.inception_score import inception_score
from skiptune.runtime.files import file_digest


@pytest.fixture(scope="module")
def ours(inception_file: Path) -> FeatureExtractor:
    return load_extractor("inception_v3", weights=inception_file, micro_batch=8)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return pictures(16, 40, 32)


@pytest.fixture(scope="module")
def outputs(ours: FeatureExtractor, images: Tensor) -> dict[str, Tensor]:
    return ours(images)


@pytest.fixture(scope="module")
def theirs(inception_file: Path) -> FeatureExtractorInceptionV3:
    layers = ["2048", "logits_unbiased"]
    return FeatureExtractorInceptionV3("inception-v3-compat", layers, str(inception_file))


def test_features_and_metrics_are_those_of_torch_fidelity(
    theirs: FeatureExtractorInceptionV3, images: Tensor, outputs: dict[str, Tensor]
) -> None:
    features, logits = theirs(images)
    assert features.std(0).mean() > 1e-3  # the random network tells the images apart
    assert outputs["features"].shape == (16, 2048) and outputs["logits"].shape == (16, 1008)
    assert relative(outputs["features"], features) < 1e-5
    assert relative(outputs["logits"], logits) < 1e-5
    spread = features - features.mean(0)
    assert relative(outputs["features"] - outputs["features"].mean(0), spread) < 1e-4

    a, b = outputs["features"][:, :12].double(), outputs["features"][:, 12:24].double()
    statistics = [fid_features_to_statistics(x) for x in (a, b)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    gaussians = [GaussianStatistics.from_features(x) for x in (a, b)]
    assert frechet_distance(*gaussians) == pytest.approx(fid, rel=1e-6)
    scaled = outputs["logits"] / outputs["logits"].std()
    expected = isc_features_to_metric(scaled, splits=2)
    score = inception_score(scaled, splits=2)
    assert expected["inception_score_mean"] > 1.05
    assert score.mean == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert score.std == pytest.approx(expected["inception_score_std"], rel=1e-5)


def test_bits_do_not_depend_on_the_company(
    ours: FeatureExtractor, images: Tensor, outputs: dict[str, Tensor]
) -> None:
    assert torch.equal(ours(images[9:11])["features"], outputs["features"][9:11])


@pytest.mark.parametrize("shape", [(32, 32), (300, 299), (299, 299), (410, 333)])
def test_clean_resize_has_the_bits_of_clean_fid(shape: tuple[int, int]) -> None:
    images = pictures(3, *shape, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an argument of Pillow's that is going
        resize = build_resizer("clean")
        expected = np.stack([resize(image.permute(1, 2, 0).numpy()) for image in images])
    assert torch.equal(clean_resize(images), torch.from_numpy(expected).permute(0, 3, 1, 2))


def test_clean_features_are_the_same_network_behind_the_other_resize(
    theirs: FeatureExtractorInceptionV3, inception_file: Path
) -> None:
    clean = load_extractor("clean_inception_v3", weights=inception_file, micro_batch=2)
    large, small = pictures(2, 299, 299), pictures(2, 32, 32)
    assert relative(clean(large)["features"], theirs(large)[0]) < 1e-5  # nothing to resize
    assert relative(clean(small)["features"], theirs(small)[0]) > 1e-3
    assert clean.digest == file_digest(inception_file) and clean.name == "clean_inception_v3"


def test_network_is_differentiable_and_agrees_with_the_extractor(
    ours: FeatureExtractor, images: Tensor, outputs: dict[str, Tensor]
) -> None:
    x = (images[:1].float() / 127.5 - 1).requires_grad_()
    features = ours.network(x)["features"]
    assert relative(features.detach(), outputs["features"][:1]) < 1e-4
    features.sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_wrong_images_are_refused(ours: FeatureExtractor) -> None:
    for images in (torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8).byte(), torch.zeros(0, 3, 8, 8).byte()):
        with pytest.raises(SkiptuneError, match=r"uint8 images of shape \[3, height, width\]"):
            ours(images)


def test_missing_and_other_files_take_one_line(inception_file: Path, tmp_path: Path) -> None:
    def refusal(match: str, name: str = "inception_v3", **options: object) -> None:
        for call in (extractor_digest, load_extractor):
            with pytest.raises(SkiptuneError, match=match) as caught:
                call(name, tmp_path, **options)  # type: ignore[operator]
            assert "\n" not in str(caught.value)

    refusal(r"weights-inception.* missing.*scripts/download.py inception_v3")
    refusal("expected abcdef01", weights=inception_file, sha256="abcdef01")
    shutil.copy(inception_file, tmp_path / "weights-inception-2015-12-05-6726825d.pth")
    refusal("expected 6726825d0af5", name="clean_inception_v3")
    refusal("NVIDIA's Inception files carry code", name="inception_v3_nvidia")
    refusal("takes a file: choose one of inception_v3", name="digits_cnn", weights=inception_file)


def test_files_that_are_no_state_dict_are_refused(tmp_path: Path) -> None:
    class Detector(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    path = tmp_path / "weights.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(Detector()).save(str(path))  # what NVIDIA's .pt is
    with pytest.raises(SkiptuneError, match="torch-fidelity's port"):
        load_extractor("inception_v3", weights=path)
    for content in ({"a": 1}, {}, [torch.zeros(2)]):
        torch.save(content, path)
        with pytest.raises(SkiptuneError, match="holds no state dict"):
            load_extractor("inception_v3", weights=path)
    torch.save({"conv.weight": torch.zeros(2)}, path)
    with pytest.raises(SkiptuneError, match="do not fit torch-fidelity's Inception-V3") as caught:
        load_extractor("inception_v3", weights=path)
    assert "\n" not in str(caught.value)
