from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from sample_images import pictures, relative
from torch import Tensor
from torchvision.models import ResNet101_Weights, resnet101
from torchvision.transforms.functional import to_pil_image

from skiptune.checkpoints.fetching.official import OfficialFile
from skiptune.checkpoints.fetching.records import remember
from skiptune.errors import SkiptuneError
from skiptune.evaluation import FeatureSet, load_extractor
from skiptune.evaluation.extractors import (
    EXTRACTORS,
    ClipImageTower,
    OfficialWeights,
    PretrainedNetwork,
    extractor_digest,
)
from skiptune.evaluation.perceptual import BACKBONES, HPS_V2
from skiptune.runtime.files import file_digest

ROOT = Path(__file__).parents[2]


class MeanColour(PretrainedNetwork):
    """A further extractor: everything that one needs."""

    weights = OfficialWeights("mean_colour.safetensors", "mean_colour")

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        self.register_buffer("scale", state["scale"])

    def preprocess(self, images: Tensor) -> Tensor:
        return self.preprocess_smoothly(images.float())

    def preprocess_smoothly(self, pixels: Tensor) -> Tensor:
        return pixels / self.scale

    def body(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": x.mean((2, 3)), "logits": x[:, :0, 0, 0]}


def test_a_further_extractor_is_one_small_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRACTORS, "mean_colour", MeanColour)
    path = tmp_path / "mean_colour.safetensors"
    save_file({"scale": torch.tensor(255.0)}, path)
    extractor = load_extractor("mean_colour", tmp_path, micro_batch=4)
    images = pictures(6, 9, 7)
    features = FeatureSet(**extractor(images))
    assert torch.allclose(features.features, images.float().mean((2, 3)) / 255)
    assert features.logits.shape == (6, 0)
    assert extractor.digest == extractor_digest("mean_colour", tmp_path) == file_digest(path)


def test_a_file_whose_download_was_recorded_must_stay_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXTRACTORS, "mean_colour", MeanColour)
    path = tmp_path / "mean_colour.safetensors"
    save_file({"scale": torch.tensor(255.0)}, path)
    remember(
        path, path.stat().st_size, file_digest(path), "https://example.org", "recorded now, at first use"
    )
    load_extractor("mean_colour", tmp_path)
    save_file({"scale": torch.tensor(254.0)}, path)
    with pytest.raises(SkiptuneError, match="damaged or another file"):
        load_extractor("mean_colour", tmp_path)


def test_resnet_is_torchvisions_behind_its_documented_transform(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = resnet101(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(SkiptuneError, match=r"resnet101-63fe2227.pth are missing.*download.py resnet101"):
        load_extractor("resnet101", tmp_path)
    extractor = load_extractor("resnet101", weights=tmp_path / "resnet.pth", micro_batch=2)
    images = pictures(2, 300, 280)
    with torch.no_grad():
        logits = network(ResNet101_Weights.IMAGENET1K_V1.transforms()(images))
    outputs = extractor(images)
    assert outputs["features"].shape == (2, 2048)
    assert relative(outputs["logits"], logits) < 1e-5
    assert relative(network.fc(outputs["features"]), logits) < 1e-5
    smooth = extractor.network(images.float() / 127.5 - 1)  # only the rounding to uint8 is missing
    assert relative(smooth["features"], outputs["features"]) < 2e-2


def test_clip_is_open_clips_behind_cmmds_resize(
    tiny_clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    class TinyClip(ClipImageTower):
        architecture = tiny_clip
        weights = OfficialWeights("tiny.safetensors", "tiny")

    monkeypatch.setitem(EXTRACTORS, "tiny", TinyClip)
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(tiny_clip, load_weights=False)
    save_file(model.eval().state_dict(), tmp_path / "tiny.safetensors")
    extractor = load_extractor("tiny", tmp_path, micro_batch=3)
    images = pictures(3, 60, 48)
    outputs = extractor(images)
    with torch.no_grad():
        squares = [
            to_pil_image(image[:, 6:54]).resize((32, 32), Image.Resampling.BICUBIC) for image in images
        ]
        expected = model.encode_image(torch.stack([transform(square) for square in squares]), normalize=True)
    assert relative(outputs["features"], expected) < 1e-5
    assert outputs["logits"].shape == (3, 0)
    x = (images.float() / 127.5 - 1).requires_grad_()
    smooth = extractor.network(x)["features"]
    assert relative(smooth.detach(), expected) < 1e-2
    smooth[:, 0].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    TinyClip.architecture = "hf-hub:someone/something"
    with pytest.raises(SkiptuneError, match="open_clip has no model 'hf-hub:someone/something'"):
        load_extractor("tiny", tmp_path)


def test_missing_packages_take_one_line(
    inception_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    save_file({"x": torch.zeros(1)}, tmp_path / "clip_vitl14_336_openai.safetensors")
    with pytest.raises(SkiptuneError, match=r"open-clip-torch .* pip install 'skiptune\[image-metrics\]'"):
        load_extractor("clip_vitl14_336", tmp_path)
    with pytest.raises(SkiptuneError, match="torch-fidelity cannot be imported"):
        load_extractor("inception_v3", weights=inception_file)


def test_nothing_heavy_is_imported_with_the_package() -> None:
    heavy = ["open_clip", "lpips", "torch_fidelity", "torchvision", "cleanfid", "transformers"]
    code = (
        "import json, sys, skiptune.evaluation, skiptune.evaluation.perceptual\n"
        f"print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(result.stdout) == []


def test_weights_are_those_of_the_catalogue_and_the_configurations() -> None:
    def catalogued(entry: str) -> OfficialFile:
        path = ROOT / f"configs/checkpoint/{entry}.yaml"
        return OfficialFile.of(entry, yaml.safe_load(path.read_text()))

    for weights in [*(network.weights for network in EXTRACTORS.values()), *BACKBONES.values(), HPS_V2]:
        official = catalogued(weights.entry)
        assert (official.file, official.sha256) == (weights.file, weights.sha256)
    for name, network in EXTRACTORS.items():
        config = yaml.safe_load((ROOT / f"configs/features/{name}.yaml").read_text())
        assert config["name"] == name and config["kind"] == "pretrained"
        assert (config["file"], config["sha256"]) == (network.weights.file, network.weights.sha256)
        assert config["url"] in catalogued(network.weights.entry).urls
