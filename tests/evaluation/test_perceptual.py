from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch
from sample_images import pictures
from torchvision.models import alexnet

from skiptune.errors import SkiptuneError
from skiptune.evaluation.perceptual import HPSv2, clean_prompt, load_hps_v2, load_lpips


@pytest.fixture(scope="module")
def alexnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's AlexNet with random weights; the classifier, 94% of the bytes, is left out."""
    torch.manual_seed(0)
    state = alexnet(weights=None).state_dict()
    path = tmp_path_factory.mktemp("lpips") / "alexnet.pth"
    torch.save({key: value for key, value in state.items() if key.startswith("features")}, path)
    return path


def test_lpips_is_the_packages_with_our_backbone(alexnet_file: Path) -> None:
    import lpips

    distance = load_lpips("alex", weights=alexnet_file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = torch.load(alexnet_file, weights_only=True)
    for slice_ in (reference.net.slice1, reference.net.slice2, reference.net.slice3, reference.net.slice4):
        for index, layer in slice_.named_children():
            if f"features.{index}.weight" in state:
                layer.load_state_dict({k: state[f"features.{index}.{k}"] for k in ("weight", "bias")})
    last = reference.net.slice5.get_submodule("10")
    last.load_state_dict({k: state[f"features.10.{k}"] for k in ("weight", "bias")})
    a, b = pictures(3, 64, 72, seed=1), pictures(3, 64, 72, seed=2)
    with torch.no_grad():
        expected = reference(a / 127.5 - 1, b / 127.5 - 1).flatten()
    values = distance(a, b, micro_batch=2)
    assert values.min() > 0 and torch.allclose(values, expected, rtol=1e-5)
    assert torch.equal(distance(a, a), torch.zeros(3))
    assert torch.allclose(distance(b, a), values)
    assert len(distance.digest) == 64


def test_lpips_refuses_in_one_line(
    alexnet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SkiptuneError, match="no LPIPS backbone 'resnet': choose one of alex"):
        load_lpips("resnet")
    with pytest.raises(SkiptuneError, match=r"alexnet-owt-7be5be79.pth are missing.*download.py alexnet"):
        load_lpips("alex", tmp_path)
    with pytest.raises(SkiptuneError, match="expected 7be5be79"):
        load_lpips("alex", weights=alexnet_file, sha256="7be5be79")
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(SkiptuneError, match=r"do not fit LPIPS \(alex\)"):
        load_lpips("alex", weights=tmp_path / "other.pth")
    distance = load_lpips("alex", weights=alexnet_file)
    with pytest.raises(SkiptuneError, match="compares pairs"):
        distance(pictures(2, 64, 64), pictures(3, 64, 64))
    with pytest.raises(SkiptuneError, match="uint8 images"):
        distance(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(SkiptuneError, match=r"lpips .* pip install 'skiptune\[image-metrics\]'"):
        load_lpips("alex", weights=alexnet_file)


def test_prompts_are_cleaned_as_they_were_for_the_paper() -> None:
    assert clean_prompt("A cat's «portrait», 4k; (no. 1)\n") == "A cats portrait, 4k no. 1"


def test_preference_is_the_cosine_of_image_and_cleaned_text(tiny_clip: str) -> None:
    import open_clip

    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(tiny_clip, load_weights=False)
    model.eval()
    scorer = HPSv2(model.state_dict(), "0" * 64, micro_batch=2, architecture=tiny_clip)
    images = pictures(3, 32, 32)  # of the model's size: nothing is resized
    prompts = ["a red square", "a dog's tail!", "sky"]
    with torch.no_grad():
        pixels = (images / 255 - transform_mean(transform)) / transform_std(transform)
        tokens = open_clip.get_tokenizer(tiny_clip)(["a red square", "a dogs tail", "sky"])
        seen, read = model.encode_image(pixels), model.encode_text(tokens)
        expected = torch.nn.functional.cosine_similarity(seen, read)
    scores = scorer(images, prompts)
    assert scores.shape == (3,) and torch.allclose(scores, expected, atol=1e-6)
    assert not torch.allclose(scorer(images, prompts[::-1]), expected, atol=1e-6)
    with pytest.raises(SkiptuneError, match="one prompt per image"):
        scorer(images, prompts[:2])


def transform_mean(transform: object) -> torch.Tensor:
    return torch.tensor(transform.transforms[-1].mean).view(1, 3, 1, 1)  # type: ignore[attr-defined]


def transform_std(transform: object) -> torch.Tensor:
    return torch.tensor(transform.transforms[-1].std).view(1, 3, 1, 1)  # type: ignore[attr-defined]


def test_images_that_are_not_square_are_padded_with_black(tiny_clip: str) -> None:
    import open_clip

    model = open_clip.create_model(tiny_clip, load_weights=False)
    scorer = HPSv2(model.state_dict(), "0" * 64, architecture=tiny_clip)
    x = scorer.preprocess(torch.full((1, 3, 64, 32), 255, dtype=torch.uint8))
    pixels = x * scorer._std + scorer._mean
    assert x.shape == (1, 3, 32, 32)
    assert torch.allclose(pixels[..., 8:24], torch.ones(1, 3, 32, 16), atol=1e-5)
    assert torch.allclose(pixels[..., :8], torch.zeros(1), atol=1e-6) and pixels[..., 24:].abs().max() < 1e-6


def test_missing_scorer_takes_one_line(tmp_path: Path) -> None:
    with pytest.raises(SkiptuneError, match=r"no scorer 'hps_v2': .*HPS_v2_compressed.pt are missing"):
        load_hps_v2(tmp_path)
