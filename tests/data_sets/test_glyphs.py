from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from skiptune.data import glyphs as module
from skiptune.data import load_dataset
from skiptune.data.glyphs import FACES, LETTERS, MIN_CONTRAST, SPLIT_SIZE, SPLITS, Glyphs
from skiptune.errors import SkiptuneError

glyphs = Glyphs()
LUMINANCE = torch.tensor([0.299, 0.587, 0.114])


@pytest.fixture
def unverified() -> Iterator[None]:
    """No data set is kept from other tests, and none is left to them."""
    module.verified_glyphs.cache_clear()
    yield
    module.verified_glyphs.cache_clear()


def test_pixels_are_those_of_the_trained_models() -> None:
    glyphs.verify()


def test_other_pixels_are_refused(unverified: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_CONTRAST", 0.5)  # some other drawing
    with pytest.raises(
        SkiptuneError, match="checksum .* expected d8ea21d2bd58: .* install the pinned"
    ) as caught:
        load_dataset("glyphs")
    assert "\n" not in str(caught.value)


def test_load_verifies_once(unverified: None, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_dataset("glyphs")
    monkeypatch.setattr(module, "CHECKSUM", "0" * 64)  # would be refused if it were looked at again
    begin = time.perf_counter()
    assert load_dataset("glyphs") is loaded
    assert time.perf_counter() - begin < 1
    assert (loaded.name, loaded.image_shape, loaded.num_classes) == ("glyphs", (3, 16, 16), 26)


def test_shapes_and_types() -> None:
    images, labels = glyphs.batch(range(5), "train")
    assert images.shape == (5, 3, 16, 16) and images.dtype == torch.uint8 and images.is_contiguous()
    assert labels.shape == (5,) and labels.dtype == torch.int64
    images, labels = glyphs.batch([], "train")
    assert images.shape == (0, 3, 16, 16) and labels.shape == (0,) and labels.dtype == torch.int64


def test_an_image_is_a_function_of_its_seed() -> None:
    images, labels = glyphs.batch([3, 2**30, 7, 3], "features")
    again, labels_again = glyphs.batch(range(8), "features")
    for i, seed in ((0, 3), (2, 7), (3, 3)):
        assert torch.equal(images[i], again[seed]) and labels[i] == labels_again[seed]
    assert not torch.equal(images[1], images[0])


def test_splits_share_no_image() -> None:
    seeds = [*range(150), SPLIT_SIZE - 2, SPLIT_SIZE - 1]  # the ends lie beside the next split's beginning
    seen = [image.numpy().tobytes() for split in SPLITS for image in glyphs.batch(seeds, split)[0]]
    assert len(SPLITS) == 4 and len(set(seen)) == len(seen) == 4 * len(seeds)
    offsets = sorted(SPLITS.values())
    assert len(set(offsets)) == len(offsets)


def test_labels_are_uniform_and_name_the_letter() -> None:
    _, labels = glyphs.batch(range(2600), "train")
    counts = torch.bincount(labels, minlength=26)
    # chi^2 with 25 degrees of freedom: mean 25, the upper 0.1% begins at 52.6.
    assert len(counts) == 26 and float(((counts - 100.0) ** 2 / 100).sum()) < 52.6
    assert glyphs.class_names == tuple(LETTERS) and len(LETTERS) == 26
    # The drawn letter is that of the label: I is narrow, M and W are wide, in every face.
    width = {
        letter: [
            np.asarray(module.letter_mask(face, LETTERS.index(letter))).any(0).sum() for face in range(19)
        ]
        for letter in "IMW"
    }
    assert len(FACES) == 19 and all(i < m and i < w for i, m, w in zip(*width.values(), strict=True))


def test_letters_fit_on_the_canvas() -> None:
    for face in range(len(FACES)):
        for letter in range(26):
            mask = np.asarray(module.letter_mask(face, letter))
            assert mask.max() == 255 and not mask[[0, -1]].any() and not mask[:, [0, -1]].any()


def test_contrast() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        ink, paper = module.contrasting_colours(rng)
        assert abs((ink - paper) @ LUMINANCE.double().numpy()) >= MIN_CONTRAST
        assert min(ink.min(), paper.min()) >= 0 and max(ink.max(), paper.max()) <= 1
    images, _ = glyphs.batch(range(500), "reference")
    shades = (images.permute(0, 2, 3, 1).float() / 255 @ LUMINANCE).flatten(1)
    spread = shades.amax(1) - shades.amin(1)
    assert spread.min() > 0.25  # thin strokes and the gradient take a little of it


def test_errors() -> None:
    with pytest.raises(
        SkiptuneError, match="no split 'test'; choose one of train, reference, features, heldout"
    ):
        glyphs.batch([0], "test")
    with pytest.raises(SkiptuneError, match="no split 'test'"):
        glyphs.size("test")
    assert glyphs.size("train") == SPLIT_SIZE
    for seed in (-1, SPLIT_SIZE):
        with pytest.raises(SkiptuneError, match=f"seed {seed} is outside the split reference"):
            glyphs.batch([seed], "reference")
    with pytest.raises(SkiptuneError, match="unknown data set 'mnist'; choose one of glyphs, digits"):
        load_dataset("mnist")
