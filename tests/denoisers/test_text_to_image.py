"""The tokenizer and encoder of prompts, and the denoiser around them."""

from __future__ import annotations

import pytest
import torch
from tiny_text_to_image import WORDS, description

from skiptune.denoisers import build_denoiser
from skiptune.denoisers.prompt_encoder import PromptEncoder
from skiptune.denoisers.text_to_image import TextToImage
from skiptune.errors import SkiptuneError
from skiptune.samplers import make_sampler, sample

pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def model() -> TextToImage:
    torch.manual_seed(0)
    made = build_denoiser(description()).eval().requires_grad_(False)
    assert isinstance(made, TextToImage)
    return made


def test_tokens_are_the_words(model: TextToImage) -> None:
    text = "a red letter A on white"
    ids = model.encoder.ids([text, "", "a blue K"])
    assert ids.tolist()[0] == [0, *(3 + WORDS.index(word) for word in text.split()), 1, 1]
    assert ids.tolist()[1] == [0] + [1] * 8
    assert ids.tolist()[2][:5] == [0, 5, 2, 4, 1]  # blue is unknown; A and a differ
    assert model.encoder.tokenizer.decode(ids[0].tolist()) == text
    with pytest.raises(SkiptuneError, match="a list of texts"):
        model.encoder.ids("a red letter A")


def test_long_prompts_are_cut_off_but_end(model: TextToImage) -> None:
    assert model.encoder.ids(["red " * 20]).tolist()[0] == [0] + [9] * 7 + [1]


def test_end_of_text_is_what_the_pooled_vector_stands_for(model: TextToImage) -> None:
    tokens, pooled = model.encoder.encode(["a K", "a red letter K on white"])
    assert torch.equal(pooled[0], tokens[0, 3]) and torch.equal(pooled[1], tokens[1, 7])


def test_prompts_condition_every_image_by_itself(model: TextToImage) -> None:
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    texts = ["a red letter K on white", "a black A on red"]
    sigma = torch.tensor(2.0)
    both = model.prompted(texts, 2.0)(noise, sigma)
    for i, text in enumerate(texts):
        alone = model.prompted([text], 2.0)(noise[i : i + 1], sigma)
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both, model.prompted([""])(noise, sigma), atol=1e-3)


def test_few_step_sampler_starts_at_the_last_time(model: TextToImage) -> None:
    seen: list[float] = []

    def listen(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen.append(float(args[1].flatten()[0]))

    handle = model.model.register_forward_pre_hook(listen)
    sampler = make_sampler("ddim", steps=3, spacing="trailing")
    sample(sampler, model.prompted(["a K"]), torch.randn(1, 3, 16, 16))
    handle.remove()
    assert seen == [999, 666, 332]


def test_wrong_arguments_are_one_line() -> None:
    with pytest.raises(SkiptuneError, match="cannot build TextToImage"):
        build_denoiser(description(schedule={"kind": "cosine"}))


def test_weights_are_called_as_without_nesting() -> None:
    names = [name for name, _ in PromptEncoder(WORDS, 9, 8, 1, 2).named_parameters()]
    assert names[0] == "transformer.embeddings.token_embedding.weight"
    assert all("text_model" not in name for name in names)
