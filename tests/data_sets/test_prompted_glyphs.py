"""Prompts, the images that they describe, and what has none."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
import torch

from skiptune.data import load_dataset, with_prompts
from skiptune.data.prompted_glyphs import PromptedGlyphs, prompts, render
from skiptune.data.prompts_of_glyphs import (
    ATTRIBUTES,
    CATEGORIES,
    COLOURS,
    NUM_PROMPTS,
    PAIRS,
    Prompt,
    changed,
    vocabulary,
)
from skiptune.errors import SkiptuneError

RED_K = Prompt(0, 0, 10, 1, 0, PAIRS.index(("red", "light blue")))


def test_prompt_says_what_is_asked_for() -> None:
    assert str(RED_K) == "a bold red letter K on light blue"
    assert str(replace(RED_K, wording=1)) == "a light blue sign with a bold red K"
    assert str(replace(RED_K, colours=PAIRS.index(("orange", "black")), bold=0)) == (
        "an orange letter K on black"
    )
    assert (RED_K.face, RED_K.ink, RED_K.paper) == ("DejaVuSans-Bold", "red", "light blue")


def test_every_prompt_has_its_number_and_its_words() -> None:
    some = range(0, NUM_PROMPTS, 101)
    assert [Prompt.of_number(number).number for number in some] == list(some)
    texts = [str(Prompt.of_number(number)) for number in some]
    assert len(set(texts)) == len(texts)
    assert {word for text in texts for word in text.split()} <= set(vocabulary())
    with pytest.raises(SkiptuneError, match="there is no prompt"):
        Prompt.of_number(NUM_PROMPTS)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_changed_prompts_differ_in_one_attribute(attribute: str) -> None:
    numbers = torch.arange(0, NUM_PROMPTS, 997)
    others = changed(numbers, attribute, torch.Generator().manual_seed(0))
    place = ATTRIBUTES.index(attribute)
    for before, after in zip(numbers.tolist(), others.tolist(), strict=True):
        pair = astuple(Prompt.of_number(before)), astuple(Prompt.of_number(after))
        assert [i for i in range(len(ATTRIBUTES)) if pair[0][i] != pair[1][i]] == [place]


def test_benchmark_prompts_are_different_and_of_their_category() -> None:
    found = {name: prompts(name, 30, "reference") for name in CATEGORIES}
    assert {p.category for p in found["newspaper"]} == {CATEGORIES.index("newspaper")}
    assert len({str(p) for each in found.values() for p in each}) == 120
    assert prompts("sign", 10, "reference") == found["sign"][:10]
    assert prompts("sign", 10, "heldout") != found["sign"][:10]
    with pytest.raises(SkiptuneError, match="no prompts are called 'anime'"):
        prompts("anime", 1)


def test_images_are_functions_of_split_and_number() -> None:
    dataset = PromptedGlyphs()
    images, labels = dataset.batch([3, 70], "train")
    again, same = dataset.batch([70], "train")
    assert torch.equal(images[1:], again) and torch.equal(labels[1:], same)
    assert not torch.equal(dataset.batch([70], "heldout")[0], again)
    assert [str(Prompt.of_number(int(n))) for n in labels] == dataset.prompts_of(labels)
    dataset.verify()


def test_image_shows_the_colours_of_the_prompt() -> None:
    image = render(RED_K, np.random.default_rng(0)) / 255
    corner, darkest = image[:2, :2].mean((0, 1)), image.reshape(-1, 3)[image[..., 2].argmin()]
    assert np.abs(corner - COLOURS["light blue"]).max() < 0.11
    assert np.abs(darkest - COLOURS["red"]).max() < 0.06


def test_not_every_data_set_has_prompts() -> None:
    with pytest.raises(SkiptuneError, match="images of digits have no prompts"):
        with_prompts(load_dataset("digits"))
