"""The SDE on Gaussian data, where every step is linear and its distribution known."""

import math

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.samplers import DDIM, Euler, Grid, Levels, SamplerState, make_sampler, sample, step_noise
from skiptune.samplers.sde import SDE

SHAPE = (1, 4, 4)


def final_moments(sampler, gaussian):
    """Exact mean and variance at the end of the grid, from the data's own at its top, by linearity."""
    # Of x and of the estimate before, both less the mean of the data.
    top = float(sampler.sigmas[0]) ** 2 + gaussian.std**2
    covariance = torch.tensor([[top, 0.0], [0.0, 0.0]], dtype=torch.float64)
    gain = torch.eye(2, dtype=torch.float64)
    for k in range(sampler.num_steps):
        pull = gaussian.std**2 / (gaussian.std**2 + float(sampler.sigmas[k]) ** 2)
        keep, spread, trend = (float(v[k]) for v in (sampler.keep, sampler.spread, sampler.trend))
        step = [[keep + (1 - keep) * (1 + trend) * pull, -(1 - keep) * trend], [pull, 0.0]]
        step = torch.tensor(step, dtype=torch.float64)
        gain, covariance = step @ gain, step @ covariance @ step.mT
        covariance[0, 0] += spread**2
    return gaussian.mean * (1 - float(gain[0, 0])), float(covariance[0, 0])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_marginals_converge_to_those_of_the_data_for_every_tau(tau, order, gaussian):
    """N(mean, s^2 + sigma^2) at every level, whatever tau: the family of equations has the same marginals."""
    errors = []
    for steps in (200, 400, 800):
        sampler = SDE(Grid(steps + 1, sigma_min=0.1, sigma_max=10.0), tau, order)
        errors.append(abs(final_moments(sampler, gaussian)[1] - gaussian.std**2 - 0.01))
    assert errors[-1] < (0.01 if order == 1 else 1e-4)
    for coarse, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    ("tau", "order", "steps"), [(0.5, 1, 150), (1.0, 1, 150), (2.0, 1, 300), (1.0, 2, 50), (2.0, 2, 100)]
)
def test_samples_have_the_data_distribution(tau, order, steps, gaussian):
    seeds = range(200)
    sampler = make_sampler("sde", steps=steps, tau=tau, order=order)
    noise = step_noise(seeds, 999, SHAPE)
    images = sample(sampler, gaussian, noise, noise_at=lambda k: step_noise(seeds, k, SHAPE))
    mean, variance = final_moments(sampler, gaussian)
    error = math.sqrt(variance / images.numel())
    assert float(images.mean()) == pytest.approx(mean, abs=4 * error)
    assert float(images.var()) == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / images.numel()))
    assert mean == pytest.approx(gaussian.mean, abs=0.02) and variance == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("tau", [0.3, 1.0, 1.7])
def test_one_step_is_many_small_ones_of_the_equation(tau):
    """With D held fixed: Euler-Maruyama of the SDE itself, with steps so small that its error is below 1%."""
    x0, sigma, after = 0.3, 2.0, 0.5
    step = SDE(Levels((sigma, after)), tau)
    levels = torch.linspace(sigma, after, 4001, dtype=torch.float64)
    mean, variance = 1.7, 0.0  # of x, starting from one point
    for level, h in zip(levels, levels[:-1] - levels[1:], strict=False):
        drift = float((1 + tau**2) / level * h)
        mean -= drift * (mean - x0)
        variance = (1 - drift) ** 2 * variance + float(2 * tau**2 * level * h)
    assert x0 + float(step.keep) * (1.7 - x0) == pytest.approx(mean, rel=1e-2)
    assert float(step.spread) ** 2 == pytest.approx(variance, rel=1e-2)
    # x0 + sigma n becomes x0 + sigma' n exactly.
    assert float((step.keep * sigma) ** 2 + step.spread**2) == pytest.approx(after**2, rel=1e-12)


def test_tau_0_is_euler_and_tau_1_is_ddim_with_eta_1(gaussian, noise):
    def noise_at(k):
        return step_noise(range(3), k, SHAPE)

    for steps in (1, 10):
        grid = Grid(steps, zero=True)
        for sde, known in ((SDE(grid, 0.0), Euler(grid)), (SDE(grid, 1.0), DDIM(grid, 1.0))):
            torch.testing.assert_close(
                sample(sde, gaussian, noise, noise_at=noise_at),
                sample(known, gaussian, noise, noise_at=noise_at),
                rtol=1e-12,
                atol=1e-12,
            )
    sample(SDE(Grid(10, zero=True), 0.0), gaussian, noise)  # asks for no random numbers


def test_fork_continues_with_the_same_bits(gaussian, noise):
    sampler = SDE(Grid(8, zero=True), 0.7, order=2)

    def run(state):
        while state.step < sampler.num_steps:
            state = sampler.step(gaussian, state, lambda k: step_noise(range(3), k, SHAPE))
        return state.x

    middle = sampler.start(noise)
    for _ in range(4):
        middle = sampler.step(gaussian, middle, lambda k: step_noise(range(3), k, SHAPE))
    before = middle.clone()
    first = run(middle)
    assert torch.equal(middle.x, before.x) and torch.equal(run(before), first)
    # Without the history it would be another trajectory.
    assert not torch.equal(run(SamplerState(middle.x, 4)), first)


@pytest.mark.parametrize("order", [1, 2])
def test_nfe_is_the_number_of_steps(order, gaussian, noise):
    sampler = make_sampler("sde", steps=7, order=order)
    sample(sampler, gaussian, noise, noise_at=lambda k: step_noise(range(3), k, SHAPE))
    assert len(gaussian.calls) == 7


def test_samples_belong_to_their_seeds(gaussian):
    def images(seeds):
        noise = step_noise(seeds, 999, SHAPE)
        return sample(
            make_sampler("sde", steps=5), gaussian, noise, noise_at=lambda k: step_noise(seeds, k, SHAPE)
        )

    assert torch.equal(images([4, 1]), images(range(6))[[4, 1]])


def test_misuse_is_explained(gaussian, noise):
    for tau in (-0.1, math.inf, math.nan):
        with pytest.raises(SkiptuneError, match="tau"):
            SDE(Grid(3), tau)
    with pytest.raises(SkiptuneError, match="order"):
        SDE(Grid(3), 1.0, 3)
    with pytest.raises(SkiptuneError, match="inversion"):
        SDE(Grid(3), 1.0).reversed()
    with pytest.raises(SkiptuneError, match="noise_at"):
        sample(SDE(Grid(3), 1.0), gaussian, noise)
