"""Images of any origin through one kept pass; scores of image files; protocols."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import pictures
from torchvision.models import alexnet

from skiptune.errors import SkiptuneError
from skiptune.evaluation import dataset_features, load_extractor
from skiptune.evaluation.extractors import EXTRACTORS, ExtractorRef, extractor_digest
from skiptune.evaluation.perceptual import load_lpips
from skiptune.evaluation.protocols import NO_RESIZE, get_protocol, resize_rule
from skiptune.evaluation.sources import (
    ImageFeatures,
    ImageSource,
    PairDistances,
    PromptScores,
    complete,
    read_prompts,
)
from skiptune.runtime.seed_chunks import CHUNK, open_run
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers, one_thread

COUNT = CHUNK + 10


@pytest.fixture(scope="module")
def digits() -> ExtractorRef:
    return ExtractorRef("digits_cnn", extractor_digest("digits_cnn"))


def chunk_times(store: RunStore) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in store.root.rglob("*.safetensors")}


def test_features_are_extracted_once_and_a_killed_pass_goes_on(tmp_path: Path, digits: ExtractorRef) -> None:
    store, workers = RunStore(tmp_path), Workers(1)
    run = ImageFeatures(ImageSource("digits"), digits)
    kept = run.read(COUNT, store, workers, "digits")
    source = run.source.images
    expected = dataset_features(load_extractor("digits_cnn"), source, range(COUNT), "reference")
    assert torch.equal(kept.features, expected.features) and torch.equal(kept.logits, expected.logits)
    assert kept.labels is not None and expected.labels is not None
    assert torch.equal(kept.labels, expected.labels)

    first = chunk_times(store)
    assert len(first) == 2
    fewer = run.read(7, store, workers, "digits")
    assert torch.equal(fewer.features, kept.features[:7]) and chunk_times(store) == first
    lost = open_run(run, store).chunk_path(1)
    lost.unlink()
    again = run.read(COUNT, store, workers, "digits")
    assert torch.equal(again.features, kept.features)
    assert {p for p, t in chunk_times(store).items() if first[p] != t} == {lost}


def test_the_same_pictures_elsewhere_are_the_same_run(tmp_path: Path, digits: ExtractorRef) -> None:
    images, _ = ImageSource("digits").images.batch(range(12), "reference")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image[0].numpy()).save(tmp_path / folder / f"{i:02}.png")
    runs = [ImageFeatures(ImageSource(str(tmp_path / folder)), digits) for folder in ("a", "b")]
    store = RunStore(tmp_path / "store")
    assert open_run(runs[0], store).id == open_run(runs[1], store).id
    # Grey pictures enter a network of one channel as what they are.
    found = runs[0].read(12, store, Workers(1), "digits")
    assert torch.equal(found.features, load_extractor("digits_cnn")(images)["features"])
    assert found.labels is None
    Image.new("L", (8, 8), 3).save(tmp_path / "b/00.png")
    assert open_run(ImageFeatures(ImageSource(str(tmp_path / "b"), tmp_path), digits), store).id != (
        open_run(runs[0], store).id
    )


def test_number_of_images() -> None:
    assert ImageSource("digits").count() == 1797 and ImageSource("digits").count(20) == 20
    with pytest.raises(SkiptuneError, match="digits has 1797"):
        ImageSource("digits").count(1798)
    with pytest.raises(SkiptuneError, match="no end: say how many"):
        ImageSource("glyphs").count()
    with pytest.raises(SkiptuneError, match="1 or more"):
        ImageSource("digits").count(0)
    with pytest.raises(SkiptuneError, match="does not exist, nor is it a data set: glyphs"):
        ImageSource("nowhere").count()


@pytest.fixture()
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    folders = (tmp_path / "a", tmp_path / "b")
    for seed, folder in enumerate(folders):
        (folder / "sub").mkdir(parents=True)
        for i, image in enumerate(pictures(4, 64, 64, seed)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"sub/{i}.{('png', 'bmp')[seed]}")
    return folders


def test_lpips_of_pictures_of_equal_names(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "alexnet.pth"
    torch.save({k: v for k, v in alexnet(weights=None).state_dict().items() if "features" in k}, weights)
    a, b = (ImageSource(str(folder)) for folder in pairs)
    run = PairDistances(a, b, "alex", weights)
    values = complete(run, 4, RunStore(tmp_path / "store"), Workers(1), "lpips")["lpips"]
    with one_thread():  # as in a worker
        expected = load_lpips(weights=weights)(pictures(4, 64, 64, 0), pictures(4, 64, 64, 1))
    assert torch.equal(values, expected)
    (pairs[1] / "sub/2.bmp").rename(pairs[1] / "sub/x.bmp")
    with pytest.raises(SkiptuneError, match="equal names: .* differ in sub/2"):
        PairDistances(a, ImageSource(str(pairs[1]), tmp_path), "alex", weights)
    with pytest.raises(SkiptuneError, match="4 and 1797 images"):
        PairDistances(a, ImageSource("digits"), "alex", weights)


def test_prompts_belong_to_images(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    source, file = ImageSource(str(pairs[0])), tmp_path / "prompts.txt"
    file.write_text("one\ntwo\nthree\nfour\n")
    assert read_prompts(file, source) == ("one", "two", "three", "four")
    mapping = tmp_path / "prompts.json"
    mapping.write_text('{"sub/3.png": "d", "sub/0": "a", "sub/1.png": "b", "sub/2.jpg": "c", "other": "x"}')
    assert read_prompts(mapping, source) == ("a", "b", "c", "d")
    mapping.write_text('{"sub/3.png": "d"}')
    with pytest.raises(SkiptuneError, match="no prompt for sub/0"):
        read_prompts(mapping, source)
    mapping.write_text("[1]")
    with pytest.raises(SkiptuneError, match="no list of texts"):
        read_prompts(mapping, source)
    with pytest.raises(SkiptuneError, match="cannot read .*nowhere.txt"):
        read_prompts(tmp_path / "nowhere.txt", source)
    with pytest.raises(SkiptuneError, match="a prompt for each image, got 2 for 4"):
        PromptScores(source, ("a", "b"))


def test_protocols_say_what_is_reported() -> None:
    best = get_protocol("edm_best_of_three").reduce([2.0, 1.5, 1.7])
    assert (best.value, best.low, best.high, best.n) == (1.5, None, None, 3)
    assert get_protocol("edm_best_of_three").reduce([2.0, 1.5, 1.7], lower_is_better=False).value == 2
    with pytest.raises(SkiptuneError, match="made of 3 blocks, not of 2"):
        get_protocol("edm_best_of_three").reduce([2.0, 1.5])
    mean = get_protocol("unbiased").reduce([1.0, 2.0, 3.0])
    half = 4.302652729911275 / np.sqrt(3)  # the 97.5% point of Student's t with 2 degrees of freedom
    assert mean.value == 2 and mean.low is not None and mean.low == pytest.approx(2 - half)
    single = get_protocol("adm").reduce([4.0])
    assert (single.value, single.low, single.n) == (4.0, None, 1)
    assert get_protocol("fid_infinity").metric("fid") == "fid_inf"
    assert get_protocol("unbiased").metric("fid") == "fid"
    assert "here 3 x 100 images (published: 50,000" in get_protocol("edm_best_of_three").describe(3, 100)
    assert "published" not in get_protocol("edm_best_of_three").describe(3, 50_000)
    with pytest.raises(SkiptuneError, match="unknown protocol 'best': choose one of unbiased"):
        get_protocol("best")


def test_every_extractor_has_its_resize_rule() -> None:
    assert {name for name in EXTRACTORS if resize_rule(name) == NO_RESIZE} == set()
    assert resize_rule("digits_cnn") == NO_RESIZE
