from __future__ import annotations

import math

import pytest
import torch
from gaussian_denoiser import Gaussian
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from skiptune.errors import SkiptuneError
from skiptune.training.objectives.diff_instruct import DiffInstruct

INIT, SIGMA, COUNT = 5.0, 0.4, 20_000


def no_data() -> tuple[Tensor, None]:
    pytest.fail("Diff-Instruct needs no data")


def spread(variance: Tensor) -> Tensor:
    """Standard deviation of ``Gaussian(variance)``'s one-step samples."""
    return INIT * variance / (variance + INIT**2)


def gradients(teacher: float, generator: float, score: float) -> tuple[float, float]:
    """Of the loss, with respect to the generator's and the score network's variance, at one noise level."""
    student = Gaussian(generator, trainable=True)
    objective = DiffInstruct(student, Gaussian(teacher), INIT, p_mean=math.log(SIGMA), p_std=0.0)
    with torch.no_grad():
        student.variance.fill_(generator)  # it began as the teacher
        objective.score.variance.fill_(score)
    objective.loss(COUNT, no_data, torch.Generator().manual_seed(0)).backward()
    assert student.variance.grad is not None and objective.score.variance.grad is not None
    assert objective.teacher.variance.grad is None
    return float(student.variance.grad), float(objective.score.variance.grad)


@pytest.mark.parametrize("generator", [1.5, 3.0, 6.0])
def test_generators_gradient_is_that_of_the_divergence(generator: float) -> None:
    """KL(N(0, b^2 + sigma^2) || N(0, v + sigma^2)) per pixel, weighted by sigma^2 / c_out."""
    teacher = 0.25
    variance = torch.tensor(generator, requires_grad=True)
    made = (spread(variance) ** 2 + SIGMA**2).sqrt()
    kl_divergence(Normal(0.0, made), Normal(0.0, math.sqrt(teacher + SIGMA**2))).backward()
    c_out = SIGMA * 0.5 / math.hypot(SIGMA, 0.5)
    assert variance.grad is not None
    expected = float(variance.grad) * SIGMA**2 / c_out
    perfect_score = float(spread(torch.tensor(generator)) ** 2)
    assert gradients(teacher, generator, perfect_score)[0] == pytest.approx(expected, rel=0.02)


def test_gradients_vanish_where_both_networks_are_right() -> None:
    generator = 4.0
    teacher = float(spread(torch.tensor(generator)) ** 2)  # the generator's samples are the teacher's
    of_generator, of_score = gradients(teacher, generator, teacher)
    assert of_generator == 0 and abs(of_score) < 0.01
    for factor in (0.7, 1.4):  # a wrong score network is led to the right one
        assert gradients(teacher, generator, factor * teacher)[1] * (factor - 1) > 0.05


def test_what_is_trained_and_what_is_exported() -> None:
    objective = DiffInstruct(Gaussian(1.0, trainable=True), Gaussian(0.25))
    names = [name for name, p in objective.trained.named_parameters() if p.requires_grad]
    assert names == ["generator.variance", "score.variance"]
    assert sum(p.requires_grad for p in objective.parameters()) == 2
    assert float(objective.denoiser.variance) == 0.25  # begins as the teacher
    assert objective.exported == "generator." and objective.betas == (0.0, 0.999) and not objective.kept


def test_level_outside_the_generators() -> None:
    with pytest.raises(SkiptuneError, match="init_sigma 0 is outside the generator's noise levels"):
        DiffInstruct(Gaussian(1.0, trainable=True), Gaussian(0.25), init_sigma=0)
