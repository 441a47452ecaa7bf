from __future__ import annotations

import pytest
import torch
from gaussian_denoiser import Gaussian, GaussianConsistency
from torch import Tensor, nn

from skiptune.denoisers import build_denoiser
from skiptune.denoisers.consistency import ConsistencyDenoiser
from skiptune.errors import SkiptuneError
from skiptune.samplers.grids import Levels
from skiptune.samplers.heun import Heun
from skiptune.samplers.state import SamplerState
from skiptune.training.objectives.consistency import ConsistencyDistillation, heun_step

VARIANCE, LOW = 0.25, 0.002
TINY = {
    "model_type": "DhariwalUNet", "img_resolution": 8, "img_channels": 1, "model_channels": 16,
    "channel_mult": [1], "num_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


def data() -> tuple[Tensor, None]:
    return VARIANCE**0.5 * torch.randn(256, 1, 4, 4, generator=torch.Generator().manual_seed(1)), None


def loss(student: Gaussian, **settings: object) -> Tensor:
    objective = ConsistencyDistillation(student, Gaussian(VARIANCE), **settings)  # type: ignore[arg-type]
    return objective.loss(256, data, torch.Generator().manual_seed(0))


def test_perfect_consistency_function_has_no_loss_but_the_error_of_heun() -> None:
    perfect = [
        float(loss(GaussianConsistency(VARIANCE, LOW), levels=levels, distance="l2")) for levels in (10, 40)
    ]
    assert perfect[1] < 1e-6
    assert perfect[1] < perfect[0] / 4**4  # the step's error is at least of second order, this is its square
    denoiser = float(loss(Gaussian(VARIANCE, trainable=True), levels=40, distance="l2"))
    assert denoiser > 1000 * perfect[1]


def test_gradient_leads_to_the_perfect_function() -> None:
    for gain in (0.8, 1.25):
        student = GaussianConsistency(VARIANCE, LOW)
        objective = ConsistencyDistillation(student, Gaussian(VARIANCE), levels=40)
        with torch.no_grad():
            student.variance *= gain  # the averaged student, i.e. the target, stays where it was
        objective.loss(256, data, torch.Generator().manual_seed(0)).backward()
        assert student.variance.grad is not None
        assert float(student.variance.grad) * (gain - 1) > 0


def test_pseudo_huber_is_the_root_mean_square_of_large_errors() -> None:
    student = Gaussian(VARIANCE, trainable=True)
    settings = {"levels": 2, "sigma_max": 1.0}  # one step, so that all images have the same levels
    square = float(loss(student, distance="l2", **settings))
    root = float(loss(student, distance="pseudo_huber", huber=0.0, **settings))
    assert root**2 == pytest.approx(square, rel=0.1) and root**2 < square  # Jensen
    assert float(loss(student, huber=1.0, **settings)) == pytest.approx(square / 2, rel=0.1)


def test_heun_step_is_that_of_the_sampler() -> None:
    teacher, x = Gaussian(VARIANCE), torch.randn(3, 1, 4, 4)
    sampler = Heun(Levels((3.0, 0.7)))
    expected = sampler.step(lambda x, sigma: teacher(x, sigma), SamplerState(x.double(), 0)).x
    made = heun_step(teacher, x, torch.full((3,), 3.0), torch.full((3,), 0.7), None)
    torch.testing.assert_close(made, expected.float())


def test_target_is_the_average_of_the_student() -> None:
    student = Gaussian(VARIANCE, trainable=True)
    objective = ConsistencyDistillation(student, Gaussian(VARIANCE), target_decay=0.9)
    for _ in range(2):
        with torch.no_grad():
            student.variance += 1
        objective.after_step()
    (target,) = objective.kept.values()
    assert float(target) == pytest.approx(VARIANCE + 0.1 * 1 * 0.9 + 0.1 * 2)
    assert [name for name, _ in objective.trained.named_parameters()] == ["variance"]
    assert objective.teacher.variance == VARIANCE


def test_boundary_condition_holds_with_any_weights() -> None:
    denoiser = build_denoiser({"class": "ConsistencyPrecond", "kwargs": TINY})
    assert isinstance(denoiser.model, nn.Module)
    torch.manual_seed(0)
    for parameter in denoiser.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(denoiser(x, torch.tensor(0.002)), x)
        assert not torch.allclose(denoiser(x, torch.tensor(0.1)), x)


def test_scalings_are_those_of_the_official_models_and_weights_those_of_edm() -> None:
    denoiser = build_denoiser({"class": "ConsistencyPrecond", "kwargs": TINY})
    sigma = torch.tensor([0.002, 0.5, 80.0]).reshape(-1, 1, 1, 1)
    guided = {
        "image_size": 8, "in_channels": 1, "model_channels": 32, "out_channels": 1, "num_res_blocks": 1,
        "attention_resolutions": [], "channel_mult": [1], "num_heads": 1, "num_head_channels": 32,
    }  # fmt: skip
    official = ConsistencyDenoiser(**guided).scalings(sigma)
    for mine, theirs in zip(denoiser.coefficients(sigma)[:3], official, strict=True):  # type: ignore[operator]
        torch.testing.assert_close(mine, theirs)
    denoiser.load_state_dict(build_denoiser({"class": "EDMPrecond", "kwargs": TINY}).state_dict())


@pytest.mark.parametrize("settings", [{"levels": 1}, {"target_decay": 1.0}, {"distance": "lpips"}])
def test_settings_outside_their_range(settings: dict[str, object]) -> None:
    with pytest.raises(SkiptuneError, match="needs levels >= 2, 0 <= target_decay < 1 and a distance of l2"):
        loss(Gaussian(VARIANCE, trainable=True), **settings)


def test_student_of_another_architecture() -> None:
    teacher = build_denoiser({"class": "EDMPrecond", "kwargs": TINY})
    student = build_denoiser({"class": "ConsistencyPrecond", "kwargs": {**TINY, "model_channels": 8}})
    with pytest.raises(SkiptuneError, match="differs from the one it begins as in model.dec") as caught:
        ConsistencyDistillation(student, teacher)
    assert "\n" not in str(caught.value)
