import math

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.samplers import VE, VP, Churn, Euler, Grid, Heun, Levels, Linear, sample, step_noise


def run(sampler, denoise, state, noise_at=None):
    while state.step < sampler.num_steps:
        state = sampler.step(denoise, state, noise_at)
    return state


def error(sampler, gaussian, noise):
    first, last = float(sampler.sigmas[0]), float(sampler.sigmas[-1])
    final = sampler.finish(run(sampler, gaussian, sampler.start(noise)))
    return float((final - gaussian.flow(noise * first, first, last)).abs().max())


@pytest.mark.parametrize("schedule", [Linear(), VE(), VP()])
@pytest.mark.parametrize(("rule", "order"), [(Euler, 1), (Heun, 2)])
def test_order_of_convergence(rule, order, schedule, gaussian, noise):
    coarse, fine = (
        error(rule(Grid(n + 1, sigma_min=0.1, sigma_max=10.0), schedule), gaussian, noise) for n in (60, 120)
    )
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.12)


def test_midpoint_rule_is_of_second_order(gaussian, noise):
    coarse, fine = (
        error(Heun(Grid(n + 1, sigma_min=0.1, sigma_max=10.0), VP(), alpha=0.5), gaussian, noise)
        for n in (60, 120)
    )
    assert math.log2(coarse / fine) == pytest.approx(2, abs=0.12)


@pytest.mark.parametrize(("rule", "nfe"), [(Euler, 5), (Heun, 9)])
def test_nfe_on_the_edm_grid(rule, nfe, gaussian, noise):
    sample(rule(Grid(5, zero=True)), gaussian, noise)
    assert len(gaussian.calls) == nfe
    assert min(gaussian.calls) == pytest.approx(0.002)


def test_one_step_is_the_denoised_noise(gaussian, noise):
    top = torch.tensor(80.0, dtype=torch.float64)
    for rule in (Euler, Heun):
        final = sample(rule(Grid(1, zero=True)), gaussian, noise)
        torch.testing.assert_close(final, gaussian(noise * top, top))


@pytest.mark.parametrize("churn", [Churn(), Churn(S_churn=3.0, S_noise=1.003)])
def test_fork_continues_with_the_same_bits_and_steps_do_not_write(churn, gaussian, noise):
    sampler = Heun(Grid(6, zero=True), VP(), churn)

    def noise_at(step):
        return step_noise(range(3), step, (1, 4, 4))

    middle = sampler.start(noise)
    for _ in range(3):
        middle = sampler.step(gaussian, middle, noise_at)
    before = middle.clone()
    first = run(sampler, gaussian, middle, noise_at)
    assert torch.equal(middle.x, before.x) and middle.step == 3
    assert torch.equal(run(sampler, gaussian, before, noise_at).x, first.x)


def test_churn_raises_levels_inside_its_window_only(gaussian, noise):
    sigmas = Grid(5, zero=True).sigmas
    raised = Churn(S_churn=1.0, S_min=0.05, S_max=50).raised(sigmas)
    torch.testing.assert_close(raised / sigmas[:-1], torch.tensor([1, 1.2, 1.2, 1.2, 1], dtype=torch.float64))
    most = Churn(S_churn=100.0).raised(sigmas)
    torch.testing.assert_close(most, sigmas[:-1] * math.sqrt(2))


def test_churn_keeps_the_distribution(gaussian):
    seeds = range(400)
    noise = step_noise(seeds, 999, (1, 4, 4))
    sampler = Heun(Grid(40, zero=True), Linear(), Churn(S_churn=20.0))
    final = sample(sampler, gaussian, noise, noise_at=lambda step: step_noise(seeds, step, (1, 4, 4)))
    plain = sample(Heun(Grid(40, zero=True)), gaussian, noise)
    assert not torch.allclose(final, plain, atol=0.1)
    assert float(final.mean()) == pytest.approx(gaussian.mean, abs=0.02)
    assert float(final.std()) == pytest.approx(gaussian.std, abs=0.02)


def test_stochastic_samples_do_not_depend_on_the_batch(gaussian):
    sampler = Heun(Grid(6, zero=True), Linear(), Churn(S_churn=3.0))

    def images(seeds):
        return sample(
            sampler,
            gaussian,
            step_noise(seeds, 999, (1, 4, 4)),
            noise_at=lambda k: step_noise(seeds, k, (1, 4, 4)),
        )

    assert torch.equal(images([4, 1]), images(range(6))[[4, 1]])


@pytest.mark.parametrize("schedule", [Linear(), VP()])
def test_inversion_comes_back(schedule, gaussian, noise):
    sampler = Heun(Grid(60, sigma_min=0.01, zero=True), schedule)
    images = 0.5 * noise + 0.3
    inverse = sampler.reversed()
    latent = inverse.finish(run(inverse, gaussian, inverse.start(images)))
    torch.testing.assert_close(latent, gaussian.flow(images, 0.01, 80.0), rtol=1e-2, atol=0.05)
    back = sampler.finish(run(sampler, gaussian, sampler.start(latent / 80)))
    torch.testing.assert_close(back, gaussian.flow(images, 0.01, 0), rtol=0, atol=3e-3)


def test_levels_after_churn_are_rounded_too(gaussian, noise):
    gaussian.round_sigma = lambda sigma: sigma.round()
    sampler = Heun(Levels((10.0, 5.0, 2.0, 0.0)), Linear(), Churn(S_churn=0.9))
    sample(sampler, gaussian, noise, noise_at=lambda step: step_noise(range(3), step, (1, 4, 4)))
    assert gaussian.calls == [13.0, 5.0, 6.0, 2.0, 3.0]


def test_misuse_is_explained(gaussian, noise):
    churning = Heun(Grid(3, zero=True), Linear(), Churn(S_churn=1.0))
    with pytest.raises(SkiptuneError, match="noise_at"):
        churning.step(gaussian, churning.start(noise))
    with pytest.raises(SkiptuneError, match="inversion"):
        churning.reversed()
    with pytest.raises(SkiptuneError, match="S_churn"):
        Churn(S_churn=-1)
    with pytest.raises(SkiptuneError, match="alpha"):
        Heun(Grid(3), alpha=0)
    sampler = Heun(Grid(3, zero=True))
    with pytest.raises(SkiptuneError, match="3 steps"):
        sampler.step(gaussian, run(sampler, gaussian, sampler.start(noise)))
    for levels in ((1.0,), (1.0, 1.0), (0.0, 1.0), (1.0, -1.0), (1.0, 3.0, 2.0)):
        with pytest.raises(SkiptuneError, match="levels"):
            Heun(Levels(levels))
