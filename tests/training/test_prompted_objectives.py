"""Noise prediction with prompts, and consistency distillation of a guided teacher."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_text_to_image import description
from torch import Tensor

from skiptune.data import load_dataset
from skiptune.data.prompts_of_glyphs import Prompt, vocabulary
from skiptune.denoisers import build_denoiser
from skiptune.denoisers.text_to_image import TextToImage
from skiptune.errors import SkiptuneError
from skiptune.training.loop import train
from skiptune.training.objectives import check_objective, make_objective
from skiptune.training.objectives.prompted import PromptedDenoising
from skiptune.training.objectives.prompted_consistency import PromptedConsistency
from skiptune.training.settings import DenoiserTraining

pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
WORDS = list(vocabulary())


def tiny() -> dict[str, Any]:
    encoder = {"words": WORDS, "length": 16, "layers": 1, "heads": 2}
    return description(encoder=encoder)


def built(seed: int) -> TextToImage:
    torch.manual_seed(seed)
    made = build_denoiser(tiny())
    assert isinstance(made, TextToImage)
    return made


def data_of(model: TextToImage, count: int = 16) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return images, model.encoder.ids([str(Prompt.of_number(997 * i)) for i in range(count)])


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_condition_is_the_tokens_of_the_prompts() -> None:
    objective = PromptedDenoising(built(0))
    dataset = load_dataset("prompted_glyphs")
    labels = torch.tensor([5, 70_000])
    expected = objective.model.encoder.ids([str(Prompt.of_number(int(n))) for n in labels])
    assert torch.equal(objective.condition(labels, dataset), expected)
    with pytest.raises(SkiptuneError, match="images of digits have no prompts"):
        PromptedDenoising(built(0)).condition(labels, load_dataset("digits"))


def test_loss_is_that_of_the_noise_and_reaches_the_prompt_encoder() -> None:
    model = built(0)
    images, ids = data_of(model)
    loss = PromptedDenoising(model, dropped=0.0).loss(16, lambda: (images, ids), generator())
    draws = generator()
    torch.rand(16, 1, generator=draws)
    times = torch.randint(1000, (16,), generator=draws)
    noise = torch.randn(images.shape, generator=draws)
    alpha = model.alphas_cumprod[times].float().view(-1, 1, 1, 1)
    predicted = model.model(
        alpha.sqrt() * images + (1 - alpha).sqrt() * noise, times.float(), context=model.context(ids)
    )
    torch.testing.assert_close(loss, (predicted - noise).square().mean(), rtol=1e-4, atol=1e-5)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_dropped_prompts_are_the_empty_one() -> None:
    model = built(0)
    images, ids = data_of(model)
    every = PromptedDenoising(model, dropped=0.999).loss(16, lambda: (images, ids), generator())
    empty = model.encoder.ids([""]).expand(16, -1)
    none = PromptedDenoising(model, dropped=0.0).loss(16, lambda: (images, empty), generator())
    torch.testing.assert_close(every, none)


def test_levels_are_one_interval_apart_and_often_the_last() -> None:
    objective = PromptedConsistency(built(0), built(0), guidance=2.0, interval=50, last=0.25)
    sigma, lower = objective.levels(4000, generator())
    sigmas = objective.model.sigmas
    assert 0.22 < float((sigma == sigmas[-1]).double().mean()) < 0.28
    index, first = torch.searchsorted(sigmas, sigma), lower == 0
    assert bool((index[first] < 50).all()) and bool(torch.equal(lower[~first], sigmas[index[~first] - 50]))


def test_distillation_asks_for_the_target_after_the_guided_step() -> None:
    student, teacher = built(0), built(1)
    objective = PromptedConsistency(student, teacher.eval(), guidance=3.0, last=0.0, huber=1e-6)
    with torch.no_grad():  # another target than the student
        for p in objective.target.model.parameters():
            p += 0.01 * torch.randn(p.shape, generator=generator())
    images, ids = data_of(student)
    loss = objective.loss(16, lambda: (images, ids), generator())
    draws = generator()
    sigma, lower = objective.levels(16, draws)
    noise = torch.randn(images.shape, generator=draws)
    prompts = [str(Prompt.of_number(997 * i)) for i in range(16)]
    expected = []
    for i, text in enumerate(prompts):
        x = images[i : i + 1] + sigma[i].float() * noise[i : i + 1]
        x0 = teacher.prompted([text], 3.0)(x, sigma[i])
        target = after = x0 + lower[i].float() / sigma[i].float() * (x - x0)
        if lower[i] > 0:
            target = objective.target.prompted([text])(after, lower[i])
        expected.append((student.prompted([text])(x, sigma[i]) - target).square().mean().sqrt())
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-3, atol=1e-4)


def test_only_the_network_of_the_student_is_trained() -> None:
    student, teacher = built(0), built(1)
    objective = PromptedConsistency(student, teacher, guidance=2.0)
    teacher.requires_grad_(False)
    images, ids = data_of(student, 4)
    objective.loss(4, lambda: (images, ids), generator()).backward()
    assert all(p.grad is not None for p in objective.trained.parameters())
    assert {name for name, p in objective.named_parameters() if p.requires_grad} == {
        f"denoiser.{name}" for name, _ in objective.trained.named_parameters()
    }
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))
    with torch.no_grad():
        for p in student.model.parameters():
            p += 1
    objective.after_step()
    a, b = next(objective.target.model.parameters()), next(teacher.model.parameters())
    torch.testing.assert_close(a, b + 0.05)


def test_run_is_resumed_with_the_same_losses(tmp_path: Path) -> None:
    settings = DenoiserTraining(
        name="tiny", denoiser=tiny(), dataset="prompted_glyphs", images=32, batch=8, workers=1,
        warmup_images=8, decay_images=8, ema_halflife=8, checkpoint_every=2, log_every=1,
        loss={"name": "prompted_noise_prediction", "dropped": 0.1},
    )  # fmt: skip
    whole = train(settings, tmp_path / "whole")

    def stop(images: int, loss: float) -> None:
        if images == 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "parts", stop)
    assert train(settings, tmp_path / "parts").curve == whole.curve


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"name": "prompted_noise_prediction", "dropped": 1.0}, "share of dropped prompts is 1.0"),
        ({"name": "prompted_noise_prediction", "drop": 0.1}, "does not fit"),
        ({"name": "prompted_consistency", "guidance": 2.0}, "needs a teacher"),
    ],
)
def test_wrong_settings_are_one_line(loss: dict[str, Any], message: str) -> None:
    with pytest.raises(SkiptuneError, match=message):
        check_objective(loss)
        make_objective(loss, built(0))


def test_other_denoisers_take_no_prompts() -> None:
    from small_training import DENOISER

    with pytest.raises(SkiptuneError, match="EDMPrecond takes no prompts"):
        PromptedDenoising(build_denoiser(copy.deepcopy(DENOISER)))
