import math

import pytest
import torch

from skiptune.denoisers.guidance import ClassifierFreeGuidance
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, TimeSchedule, Window, find_skip_sites, record_skip_norms

LEVELS = (80.0, 10.0, 2.0, 0.5)


def weights(direction, axis, *sigma):
    return TimeSchedule(direction, LEVELS, axis).weight(torch.tensor(sigma, dtype=torch.float64)).tolist()


def test_linear_in_the_step():
    assert weights("decreasing", "step", *LEVELS) == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert weights("increasing", "step", *LEVELS) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    # between two levels, where second-order samplers do not look but a search may: linear in log sigma
    assert weights("decreasing", "step", math.sqrt(20.0)) == pytest.approx([0.5])


def test_linear_in_sigma_and_its_logarithm():
    assert weights("decreasing", "sigma", 80, 40.25, 0.5) == pytest.approx([1, 0.5, 0])
    assert weights("increasing", "sigma", 80, 40.25, 0.5) == pytest.approx([0, 0.5, 1])
    assert weights("decreasing", "log_sigma", 80, math.sqrt(40.0), 0.5) == pytest.approx([1, 0.5, 0])
    assert weights("increasing", "log_sigma", 80, math.sqrt(40.0), 0.5) == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("axis", ["step", "sigma", "log_sigma"])
def test_ends_are_exact_and_hold_outside(axis):
    assert weights("increasing", axis, 100, 80, 0.5, 0.1) == [0, 0, 1, 1]
    assert weights("decreasing", axis, 100, 80, 0.5, 0.1) == [1, 1, 0, 0]


def test_shape_is_that_of_sigma():
    sigma = torch.tensor(LEVELS).reshape(4, 1, 1, 1)
    for schedule in (TimeSchedule("increasing", LEVELS), Window(1, 20)):
        weight = schedule.weight(sigma)
        assert weight.shape == sigma.shape and weight.dtype == torch.float64


def test_window_includes_its_ends():
    sigma = torch.tensor([0.99, 1.0, 5.0, 20.0, 20.1], dtype=torch.float64)
    assert Window(1, 20).weight(sigma).tolist() == [0, 1, 1, 1, 0]
    assert Window(0, float("inf")).weight(sigma).tolist() == [1] * 5


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            lambda: TimeSchedule("sideways", LEVELS),
            "unknown time direction 'sideways'; choose one of increasing",
        ),
        (lambda: TimeSchedule("increasing", LEVELS, "time"), "unknown time axis 'time'; choose one of step"),
        (lambda: TimeSchedule("increasing", (1.0, 2.0)), "descending"),
        (lambda: TimeSchedule("increasing", (1.0,)), "at least two"),
        (lambda: TimeSchedule("increasing", (1.0, 0.0)), "positive"),
        (lambda: Window(2, 1), "empty"),
        (lambda: Window(-1, 1), "empty"),
    ],
)
def test_mistakes_are_one_line(make, line):
    with pytest.raises(SkiptuneError, match=line) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def setting(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    return denoiser, find_skip_sites(denoiser), io["x"][2], tuple(io["rho"].tolist())


@pytest.mark.parametrize(
    ("direction", "full", "none"), [("increasing", 0.5, 80.0), ("decreasing", 80.0, 0.5)]
)
def test_full_strength_at_one_end_and_untouched_at_the_other(setting, direction, full, none):
    denoiser, sites, x, rho = setting
    full, none = torch.tensor(full), torch.tensor(none)
    untouched = denoiser(x, none)
    with SkipTuning(rho).attached_to(denoiser):
        expected = denoiser(x, full)
    with SkipTuning(rho, schedules=(TimeSchedule(direction, LEVELS),)).attached_to(denoiser):
        assert torch.equal(denoiser(x, full), expected)
        assert torch.equal(denoiser(x, sigma=none), untouched)


def test_weight_interpolates_the_coefficient(setting):
    denoiser, sites, x, rho = setting
    sigma = torch.tensor(10.0)
    with SkipTuning(tuple(1 + (r - 1) * 2 / 3 for r in rho)).attached_to(denoiser):
        expected = denoiser(x, sigma)
    with SkipTuning(rho, schedules=(TimeSchedule("decreasing", LEVELS),)).attached_to(denoiser):
        torch.testing.assert_close(denoiser(x, sigma), expected)
    both = (TimeSchedule("decreasing", LEVELS), Window(20, 90))
    untouched = denoiser(x, sigma)
    with SkipTuning(rho, schedules=both).attached_to(denoiser):
        assert torch.equal(denoiser(x, sigma), untouched)


def test_every_image_has_its_own_noise_level(setting):
    denoiser, sites, x, rho = setting
    sigma = torch.tensor([10.0, 1.0])
    untouched = denoiser(x, sigma)
    with SkipTuning(rho).attached_to(denoiser):
        tuned = denoiser(x, sigma)
    with SkipTuning(rho, schedules=(Window(5, 20),)).attached_to(denoiser):
        mixed = denoiser(x, sigma)
    assert torch.equal(mixed[0], tuned[0]) and torch.equal(mixed[1], untouched[1])
    assert not torch.equal(tuned[1], untouched[1])


def test_under_guidance_every_half_of_the_batch_has_the_noise_levels(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    guided = ClassifierFreeGuidance(denoiser, 2.0)
    x, sigma = io["x"][2], torch.tensor([10.0, 1.0])
    inputs = (x, sigma, io["class_labels"])
    untouched = guided(*inputs)
    with SkipTuning.interpolated(0.5).attached_to(guided):
        tuned = guided(*inputs)
    with SkipTuning.interpolated(0.5, schedules=(Window(5, 20),)).attached_to(guided):
        mixed = guided(*inputs)
    assert torch.equal(mixed[0], tuned[0]) and torch.equal(mixed[1], untouched[1])
    assert not torch.equal(tuned[1], untouched[1])
    with record_skip_norms(guided) as norms:
        guided(*inputs)
    assert norms.u[0].shape == (len(find_skip_sites(guided)), 4)


def test_inner_network_alone_has_no_noise_level(setting):
    denoiser, sites, x, rho = setting
    with SkipTuning(rho, schedules=(Window(5, 20),)).attached_to(denoiser):
        denoiser(x, torch.tensor(10.0))
        with pytest.raises(SkiptuneError, match="call the denoiser, not its inner network"):
            denoiser.model(x, torch.zeros(1))
