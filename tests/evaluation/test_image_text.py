"""The desk's image-text scorer: its cosines, its training, its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from skiptune.data import load_dataset
from skiptune.data.images import from_uint8
from skiptune.data.prompts_of_glyphs import vocabulary
from skiptune.errors import SkiptuneError
from skiptune.evaluation.image_text import PairScorer, build_pair, load_pair_scorer
from skiptune.evaluation.scorers import ScorerRef
from skiptune.training.contrastive import ASKED, ContrastiveTraining, contrastive_loss, train_and_save_pair
from skiptune.training.prompt_tokens import PromptTokens

pytest.importorskip("transformers", reason="transformers is not installed")


def description() -> dict[str, Any]:
    text = {"words": list(vocabulary()), "length": 16, "width": 16, "layers": 1, "heads": 2}
    image = {"in_channels": 3, "resolution": 16, "width": 8, "num_features": 16}
    kwargs = {"architecture": "DeskCNN", "image": image, "text": text, "dimension": 8}
    return {"class": "ImageTextPair", "kwargs": kwargs}


def test_score_is_the_cosine_whatever_else_is_in_the_batch() -> None:
    torch.manual_seed(0)
    pair = build_pair(description())
    scorer = PairScorer(pair, "tiny", "0")
    images, labels = load_dataset("prompted_glyphs").batch(range(70), "heldout")
    prompts = load_dataset("prompted_glyphs").prompts_of(labels)  # type: ignore[attr-defined]
    scores = scorer(images, prompts)
    assert scores.shape == (70,) and torch.equal(scores[65:66], scorer(images[65:66], prompts[65:66]))
    with torch.no_grad():
        seen = pair.image(from_uint8(images[3:4]))["logits"]
        read = pair.project(pair.text.encode(prompts[3:4])[1])
    torch.testing.assert_close(scores[3:4], F.cosine_similarity(seen, read), rtol=1e-5, atol=1e-6)
    with pytest.raises(SkiptuneError, match="one prompt per image, got 70 images"):
        scorer(images, prompts[:3])


def test_loss_of_a_known_case() -> None:
    """Encoders that give every image and every prompt one vector: all choices are equally likely."""
    pair = build_pair(description())
    with torch.no_grad():
        for module in (pair.image.head, pair.project):
            module.weight.zero_()
        pair.image.head.bias.fill_(1.0)
    tokens = PromptTokens(pair.text, load_dataset("prompted_glyphs"))
    loss = contrastive_loss(pair, torch.zeros(4, 3, 16, 16), torch.arange(4), tokens, torch.Generator())
    expected = (torch.tensor(4.0 + len(ASKED)).log() + torch.tensor(4.0).log()) / 2
    torch.testing.assert_close(loss.detach(), expected)


def test_trained_scorer_is_saved_and_found_again(tmp_path: Path) -> None:
    settings = ContrastiveTraining(
        "tiny_scorer", description(), "prompted_glyphs", images=64 * 30, batch=64, learning_rate=5e-3,
        heldout_images=64,
    )  # fmt: skip
    record = train_and_save_pair(settings, tmp_path)
    losses = [loss for _, loss in record["loss_curve"]]
    assert losses[-1] < losses[0] - 0.3
    assert set(record["heldout_accuracy"]) == set(ASKED)
    scorer = load_pair_scorer("tiny_scorer", tmp_path)
    dataset = load_dataset("prompted_glyphs")
    images, labels = dataset.batch(range(64), "heldout")
    scores = scorer(images, dataset.prompts_of(labels))  # type: ignore[attr-defined]
    assert float(scores.double().mean()) == pytest.approx(record["heldout_score"], abs=1e-3)
    assert record["heldout_score"] > record["heldout_score_of_others"]
    assert record["heldout_retrieval"] >= 4 / 64  # chance is 1 / 64


def test_unknown_scorers_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SkiptuneError, match="is of kind 'clip'"):
        ScorerRef.resolve({"name": "x", "kind": "clip"})
    with pytest.raises(SkiptuneError, match="HPS_v2_compressed.pt"):
        ScorerRef.resolve({"name": "hps_v2", "kind": "hps_v2", "file": "HPS_v2_compressed.pt"}, tmp_path)
