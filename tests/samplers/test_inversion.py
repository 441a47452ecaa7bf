"""Inversion of a Gaussian model, whose probability-flow ODE is solved by a linear map."""

import math

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.samplers import VP, Euler, Grid, Heun, invert, make_sampler, sample

LOW, HIGH = 0.02, 10.0


def grid(levels):
    return Grid(levels, sigma_min=LOW, sigma_max=HIGH)


@pytest.mark.parametrize(("rule", "order"), [(Euler, 1), (Heun, 2)])
def test_inversion_converges_to_the_exact_linear_map(rule, order, gaussian, noise):
    images = gaussian.mean + gaussian.std * noise
    exact = gaussian.flow(images, LOW, HIGH) / HIGH
    coarse, fine = (
        float((invert(rule(grid(n + 1)), gaussian, images) - exact).abs().max()) for n in (60, 120)
    )
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    assert fine < 0.05


def test_data_become_standard_normal(gaussian):
    images = gaussian.mean + gaussian.std * torch.randn(
        300, 1, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    latent = invert(Heun(Grid(100, zero=True)), gaussian, images)
    error = 1 / math.sqrt(latent.numel())
    assert float(latent.mean()) == pytest.approx(gaussian.mean / 80, abs=4 * error)
    assert float(latent.var()) == pytest.approx(1, abs=4 * math.sqrt(2) * error)
    # The map is exact pixel by pixel, not only in distribution.
    torch.testing.assert_close(latent, gaussian.flow(images, 0.002, 80.0) / 80, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(("rule", "order"), [(Euler, 1), (Heun, 2)])
def test_sampling_returns_the_image_with_the_order_of_the_solver(rule, order, gaussian, noise):
    images = gaussian.mean + gaussian.std * noise
    errors = []
    for n in (40, 80, 160):
        sampler = rule(grid(n + 1))
        back = sample(sampler, gaussian, invert(sampler, gaussian, images))
        errors.append(float((back - images).abs().max()))
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) > order - 0.2
    assert errors[-1] < 0.05


@pytest.mark.parametrize(
    "sampler",
    [Heun(Grid(200, zero=True), VP()), make_sampler("unipc", steps=60)],
    ids=["variance-preserving", "unipc"],
)
def test_every_deterministic_sampler_comes_back(sampler, gaussian, noise):
    images = gaussian.mean + gaussian.std * noise
    back = sample(sampler, gaussian, invert(sampler, gaussian, images))
    torch.testing.assert_close(back, images, rtol=0, atol=5e-3)


def test_discrete_models_come_back(discrete_gaussian, log_linear, noise):
    denoiser = discrete_gaussian(log_linear(1000))
    sampler = make_sampler("ddim", steps=500, offset=1, end="first")
    images = 0.3 + 0.5 * noise
    back = sample(sampler, denoiser, invert(sampler, denoiser, images))
    # DDIM ends in variance-preserving scaling at its first level, 0.1.
    torch.testing.assert_close(back, images / math.sqrt(1.01), rtol=0, atol=2e-2)


@pytest.mark.parametrize(("name", "nfe"), [("euler", 4), ("heun", 8)])
def test_nfe_on_the_edm_grid_of_five_levels(name, nfe, gaussian, noise):
    invert(make_sampler(name, steps=5), gaussian, noise)
    assert len(gaussian.calls) == nfe
    assert min(gaussian.calls) == pytest.approx(0.002)


def test_condition_reaches_the_denoiser(gaussian, noise):
    sampler = Heun(grid(121))
    condition = torch.eye(2, dtype=torch.float64)[[1, 1, 1]]  # the class whose mean is higher by 1
    latent = invert(sampler, gaussian, noise, condition)
    torch.testing.assert_close(latent, invert(sampler, gaussian, noise - 1) + 1 / HIGH, rtol=1e-9, atol=1e-9)


def test_stochastic_samplers_are_refused(gaussian, noise):
    for sampler in (make_sampler("heun", steps=5, S_churn=1.0), make_sampler("sde", steps=5)):
        with pytest.raises(SkiptuneError, match="inversion cannot add noise"):
            invert(sampler, gaussian, noise)
