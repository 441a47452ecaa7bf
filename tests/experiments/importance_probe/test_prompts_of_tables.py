"""How numbered images stand for prompts, and what a prompt's values are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.importance_probe.prompt_means import PromptMeans
from experiments.importance_probe.prompts import PromptBlocks, PromptList, count_images, prompt_list
from experiments.importance_probe.rank_facts import (
    agreement,
    changes,
    middle_block,
    places,
    symmetric_pairs,
)
from experiments.importance_probe.ranking_run import noted
from experiments.scale import Scale
from skiptune.errors import SkiptuneError
from skiptune.importance import RELEASED
from skiptune.importance.probe import StepDone


def test_prompts_take_turns_over_categories_and_images_over_splits(scales: dict[str, Scale]) -> None:
    desk = prompt_list(scales["desk"], 3)
    assert desk.images == count_images(scales["desk"], 3) == 24
    assert desk.texts[:4] == prompt_list(scales["desk"], 1).texts  # more prompts go on where fewer stopped
    assert "newspaper" in " ".join(desk.texts[2::4]) or "newsprint" in " ".join(desk.texts[2::4])
    assert (desk.text(8), desk.text(9)) == (desk.texts[4], desk.texts[4])
    assert (desk.noise_seed(8), desk.noise_seed(9)) == (42_000_004, 21_000_004)
    assert [replace(desk, shared=True).noise_seed(n) for n in (8, 9, 10)] == [42, 21, 42]
    assert desk.prompts(range(0, 250)) == range(12) and desk.numbers(range(250, 500)) == range(250, 24)
    assert PromptBlocks.of_list(desk).seeds == range(250) and PromptBlocks.of_list(desk).bounds == ((0, 23),)


def test_prompts_from_files_are_shuffled_as_in_the_released_program(
    scales: dict[str, Scale], tmp_path: Path
) -> None:
    paper = replace(scales["paper"], checkpoints=tmp_path)
    with pytest.raises(SkiptuneError, match=r"anime.json of the prompts 'anime' is missing; get it with: py"):
        prompt_list(paper)
    for name in paper.prompts["categories"]:
        texts = [f"{name} {i}" for i in range(10)]
        (tmp_path / f"hpd_v2_{name}.json").write_text(json.dumps(texts))
    # random.Random(42).shuffle of 0 .. 9 begins with 7, 3.
    assert prompt_list(paper, 2).texts[::4] == ("anime 7", "anime 3")
    with pytest.raises(SkiptuneError, match="has 10 prompts, 11 are asked for"):
        prompt_list(paper, 11)


def test_values_of_a_prompt() -> None:
    """Two prompts in each of two categories: images are prompt 0 train, prompt 0 test, prompt 1 train, ..."""
    prompts = PromptList(("a", "b", "c", "d"), ("x", "y"), (42, 21), False)
    means = PromptMeans(None, prompts, ())  # type: ignore[arg-type]
    stored = {"score": torch.arange(8.0), "distance": torch.arange(8.0) * 10}
    assert means.series("score", stored) == [0.5, 2.5, 4.5, 6.5]
    assert means.series("distance", stored) == [5, 25, 45, 65]
    assert means.series("avg_test", stored) == [1, 3, 5, 7]
    assert means.series("anime_train", stored) == [0, 4] and means.series("concept_art_test", stored) == [
        3,
        7,
    ]
    with pytest.raises(SkiptuneError, match="no metric 'anime' of prompts; there are distance, score"):
        means.series("anime", stored)


def test_agreement_of_two_rankings() -> None:
    """Three blocks at two steps, one prompt: by hand."""
    first, second = torch.tensor([[[1.0, 2, 3], [3.0, 2, 1]]]), torch.tensor([[[1.0, 3, 2], [3.0, 2, 1]]])
    found = {name: float(value) for name, value in agreement(first, second).items()}
    # Step 0: of three pairs one is turned, tau 1/3; step 1: equal.  Across: all turned, and two of three.
    assert found == pytest.approx({"tau_repeat": 2 / 3, "tau_steps": (-1 - 1 / 3) / 2, "tau_excess": -4 / 3})
    assert set(agreement(first[:, :1], second[:, :1])) == {"tau_repeat"}


def test_a_long_probe_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    done = StepDone(iteration=6, step=1, runs=15, evaluated=30, accepted=4)
    noted("probe of prompt 3", RELEASED, 2)(done)
    assert capsys.readouterr().err == ""  # it has just begun
    noted("probe of prompt 3", RELEASED, 2, every=0)(done)
    said = capsys.readouterr().err
    assert said == "probe of prompt 3: iteration 7 of 20, step 2 of 2, 4 of 15 runs accepted\n"


def test_facts_of_a_ranking() -> None:
    """Five blocks at two steps, one prompt: by hand."""
    scores = torch.tensor([[[1.0, 2, 5, 3, 4], [4.0, 1, 3, 3, 5]]]) / 5
    assert places(scores)[0, 1].tolist() == [4, 1, 2.5, 2.5, 5]
    pairs = symmetric_pairs(scores)
    # Step 0: 4 over 0, 3 over 1; step 1: 4 over 0, 3 over 1.
    assert {name: float(value) for name, value in pairs.items()} == {
        "decoder_0_0": 1, "decoder_0_1": 1, "decoder_1_0": 1, "decoder_1_1": 1, "decoder": 1,
    }  # fmt: skip
    middle = {name: float(value) for name, value in middle_block(scores).items()}
    assert middle == {"middle_0": 1, "middle_1": 0, "middle": 0.5}  # at step 1 two are above
    found = {name: float(value) for name, value in changes(scores).items()}
    assert found == {"rise_outer": ((4 - 1) + (5 - 4)) / 2, "rise_inner": ((1 - 2) + (2.5 - 3)) / 2}
