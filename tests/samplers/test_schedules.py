import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.samplers import VE, VP, DiscreteVP, Linear

BETAS = tuple(torch.linspace(1e-4, 0.02, 100, dtype=torch.float64).tolist())
SCHEDULES = [Linear(), VE(), VE(True), VP(), VP(False), VP.through(0.002, 80.0), DiscreteVP(betas=BETAS)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_derivatives_are_the_slopes_and_time_is_the_inverse(schedule):
    t = torch.linspace(0.0423, 0.9923, 20, dtype=torch.float64)  # between the nodes of the discrete schedule
    step = 1e-6
    slope = (schedule.sigma(t + step) - schedule.sigma(t - step)) / (2 * step)
    torch.testing.assert_close(schedule.sigma_derivative(t), slope, rtol=1e-6, atol=1e-8)
    slope = (schedule.scale(t + step) - schedule.scale(t - step)) / (2 * step)
    torch.testing.assert_close(schedule.scale_derivative(t), slope, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(schedule.time(schedule.sigma(t)), t, rtol=1e-9, atol=1e-12)


def test_variance_preserving_states_have_unit_variance():
    t = torch.linspace(0.01, 1, 5, dtype=torch.float64)
    for schedule in (VP(), VE(True), DiscreteVP(betas=BETAS)):
        total = schedule.scale(t) ** 2 * (1 + schedule.sigma(t) ** 2)
        torch.testing.assert_close(total, torch.ones_like(t))


def test_vp_passes_through_the_given_levels():
    times = torch.tensor([1e-3, 1.0], dtype=torch.float64)
    assert VP.through(0.01, 50.0, 1e-3).sigma(times).tolist() == pytest.approx([0.01, 50.0])
    through_default = VP.through(*VP().sigma(times).tolist())
    assert (through_default.beta_d, through_default.beta_min) == pytest.approx((19.9, 0.1))


@pytest.mark.parametrize("schedule", [VP(), VP.through(0.002, 80.0), VP.through(0.002, 80.0, scaled=False)])
def test_clean_images_are_at_time_zero(schedule):
    levels = torch.tensor([80.0, 0.002, 0.0], dtype=torch.float64)
    times = schedule.time(levels)
    assert times[2] == 0 and times[1] > 0
    torch.testing.assert_close(schedule.sigma(times), levels)


def test_discrete_schedule_has_the_given_betas_at_its_nodes():
    t = torch.arange(1, 101, dtype=torch.float64) / 100
    alphas = (1 - torch.tensor(BETAS, dtype=torch.float64)).cumprod(0)
    torch.testing.assert_close(DiscreteVP(betas=BETAS).scale(t) ** 2, alphas)
    with pytest.raises(SkiptuneError, match="betas"):
        DiscreteVP(betas=(0.1,))
