"""Learning skip coefficients and fine-tuning on feature losses, on a shipped network of digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_loop import Stop, assert_same, stop_after
from torch import Tensor

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.data import load_dataset
from skiptune.data.images import from_uint8
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.denoising_losses import edm_weight, pixel_space, space_loss
from skiptune.evaluation.extractors import load_extractor
from skiptune.interventions import SkipTuning, find_skip_sites
from skiptune.training.loop import train
from skiptune.training.losses.edm import EDMLoss
from skiptune.training.objectives import make_objective
from skiptune.training.objectives.feature import FeatureDenoising
from skiptune.training.objectives.objective import Objective
from skiptune.training.objectives.skip_coefficients import SkipCoefficientLearning, coefficients
from skiptune.training.settings import DenoiserTraining

TEACHER = "edm_digits_uncond"
LEARN: dict[str, Any] = {
    "name": "skip_coefficients", "teacher": TEACHER, "features": "digits_resnet",
    "bounded": False, "start": 1.0,
}  # fmt: skip
FINE_TUNE: dict[str, Any] = {"name": "feature_denoising", "teacher": TEACHER, "features": "digits_cnn"}
DESCRIPTION = load_desk_denoiser(TEACHER).description


def data() -> tuple[Tensor, None]:
    return from_uint8(load_dataset("digits").batch(range(16), "train")[0]), None


def value(objective: Objective) -> Tensor:
    return objective.loss(16, data, torch.Generator().manual_seed(0))


def detached(objective: Objective) -> Tensor:
    return value(objective).detach()


def learning(**changes: Any) -> SkipCoefficientLearning:
    objective = make_objective({**LEARN, **changes}, build_denoiser(DESCRIPTION))
    assert isinstance(objective, SkipCoefficientLearning)
    return objective


def fine_tuning(**changes: Any) -> FeatureDenoising:
    objective = make_objective({**FINE_TUNE, **changes}, build_denoiser(DESCRIPTION))
    assert isinstance(objective, FeatureDenoising)
    objective.denoiser.eval()  # without dropout
    return objective


def run(loss: dict[str, Any], **changes: Any) -> DenoiserTraining:
    """4 steps, a checkpoint after every second."""
    values: dict[str, Any] = {
        "denoiser": DESCRIPTION, "dataset": "digits", "images": 16, "batch": 4, "learning_rate": 0.05,
        "warmup_images": 0, "decay_images": 0, "ema_halflife": 0, "workers": 1, "checkpoint_every": 2,
        "log_every": 1, "loss": loss,
    }  # fmt: skip
    return DenoiserTraining(name="learned", **(values | changes))


def test_coefficients_of_one_give_the_untouched_loss_and_others_that_of_skip_tuning() -> None:
    untouched = fine_tuning(features="digits_resnet", pixel=0.0)
    assert torch.equal(value(learning()), value(untouched))
    rho = 0.9 - 0.05 * torch.arange(len(find_skip_sites(untouched.denoiser)))
    learned = learning()
    with torch.no_grad():
        learned.coefficients.value.copy_(rho)
    with SkipTuning(tuple(rho.tolist())).attached_to(untouched.denoiser):
        torch.testing.assert_close(value(learned), value(untouched))
    assert value(learned) != value(learning())


@pytest.mark.parametrize("bounded", [False, True])
def test_gradient_is_the_finite_difference(bounded: bool) -> None:
    objective = learning(bounded=bounded, start=0.8)
    value(objective).backward()
    parameter = objective.coefficients.value
    assert parameter.grad is not None and parameter.grad.abs().max() > 1e-3
    step, found = 5e-3, []
    for site in range(len(parameter)):
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[site] += sign * step
                sides.append(float(detached(objective)))
                parameter[site] -= sign * step
        found.append((sides[0] - sides[1]) / (2 * step))
    torch.testing.assert_close(parameter.grad, torch.tensor(found), rtol=0.02, atol=2e-4)


def test_sigmoid_keeps_coefficients_inside() -> None:
    rho = coefficients(torch.tensor([-12.0, 0.0, 12.0]), bounded=True)
    assert rho.min() > 0 and rho.max() < 1 and rho[1] == 0.5
    torch.testing.assert_close(learning(bounded=True, start=0.8).coefficients.rho, torch.full((6,), 0.8))
    for start in (0.0, 1.0):
        with pytest.raises(
            SkiptuneError, match=rf"start of the skip coefficients is {start}, it must lie in"
        ):
            learning(bounded=True, start=start)


@pytest.mark.parametrize("bounded", [False, True])
def test_only_coefficients_are_learned_and_a_stopped_run_goes_on_to_the_same_bits(
    bounded: bool, tmp_path: Path
) -> None:
    settings = run({**LEARN, "bounded": bounded, "start": 0.9})
    whole = train(settings, tmp_path / "whole")
    with pytest.raises(Stop):
        train(settings, tmp_path / "parts", stop_after(12))  # its checkpoint is of step 2
    assert_same(train(settings, tmp_path / "parts"), whole)
    first, second = (load_file(tmp_path / part / "checkpoint.safetensors") for part in ("whole", "parts"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert list(whole.average) == ["value"]
    rho = coefficients(whole.average["value"], bounded)
    begin = learning(bounded=bounded, start=0.9).coefficients.rho
    assert (rho != begin).all() and (rho - begin).abs().max() > 5e-3  # every site was learned
    teacher = load_desk_denoiser(TEACHER).denoiser.state_dict()
    assert all(torch.equal(whole.weights[key], teacher[key]) for key in teacher)


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    state = train(run(LEARN, images=160, batch=16, learning_rate=0.02), tmp_path)
    learned = learning()
    before = float(detached(learned))
    with torch.no_grad():
        learned.coefficients.value.copy_(state.average["value"])
    assert float(detached(learned)) < before


def test_hybrid_loss_is_the_weighted_sum_of_its_parts() -> None:
    pixel = float(detached(fine_tuning(pixel=1.0, feature=1e-12)))
    feature = float(detached(fine_tuning(pixel=0.0)))
    both = float(detached(fine_tuning(pixel=2.0, feature=0.5)))
    assert both == pytest.approx(2 * pixel + 0.5 * feature, rel=1e-5)
    # The pixel part is EDM's training loss, with the same draws.
    expected = EDMLoss()(load_desk_denoiser(TEACHER).denoiser, *data(), torch.Generator().manual_seed(0))
    assert pixel == pytest.approx(float(expected), rel=1e-5)


def test_weight_and_space_are_those_of_the_measured_losses() -> None:
    extractor, denoiser = load_extractor("digits_cnn"), load_desk_denoiser(TEACHER).denoiser
    generator, images = torch.Generator().manual_seed(0), data()[0]
    sigma = (1.2 * torch.randn(16, generator=generator) - 1.2).exp()
    noisy = images + sigma.reshape(-1, 1, 1, 1) * torch.randn(images.shape, generator=generator)
    estimate = denoiser(noisy, sigma)
    features = space_loss(lambda x: extractor.network(x)["features"], estimate, images)
    expected = (edm_weight(sigma) * (features + space_loss(pixel_space, estimate, images))).mean()
    assert float(detached(fine_tuning())) == pytest.approx(float(expected), rel=1e-5)


def test_fine_tuning_begins_with_the_teacher_and_trains_all_of_it_but_not_the_features(
    tmp_path: Path,
) -> None:
    settings = run(FINE_TUNE, learning_rate=1e-3)
    whole = train(settings, tmp_path / "whole")
    with pytest.raises(Stop):
        train(settings, tmp_path / "parts", stop_after(12))
    assert_same(train(settings, tmp_path / "parts"), whole)
    teacher = load_desk_denoiser(TEACHER).denoiser.state_dict()
    assert all(not torch.equal(average, teacher[name]) for name, average in whole.average.items())
    assert all((average - teacher[name]).abs().max() < 0.01 for name, average in whole.average.items())
    objective = fine_tuning()
    value(objective).backward()
    assert all(parameter.grad is None for parameter in objective.features.parameters())
    assert all(parameter.grad is not None for parameter in objective.denoiser.parameters())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            {"name": "skip_coefficients", "teacher": TEACHER},
            "does not fit: missing a required argument: 'feat",
        ),
        ({**FINE_TUNE, "features": "digits_mlp"}, "no extractor 'digits_mlp'"),
        ({**FINE_TUNE, "features": "glyphs_cnn"}, r"features glyphs_cnn are of images \[3, 16, 16\]"),
        ({**FINE_TUNE, "feature": 0.0}, "needs pixel >= 0 and feature > 0, got 1.0 and 0.0"),
        (
            {**FINE_TUNE, "features": {"name": "resnet101", "kind": "pretrained", "file": "none.pth"}},
            "none.pth",
        ),
    ],
)
def test_settings_that_do_not_fit(loss: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        train(run({**loss}), tmp_path)
    assert "\n" not in str(caught.value)
