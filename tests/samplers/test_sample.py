import pytest
import torch

from skiptune.samplers import Grid, Heun, UniPC, make_sampler, sample


def test_range_of_the_denoiser_limits_the_levels(gaussian, noise):
    gaussian.sigma_min, gaussian.sigma_max = 0.05, 20.0
    sample(UniPC(Grid(6)), gaussian, noise)
    assert gaussian.calls[0] == pytest.approx(20.0)
    last = sample(Heun(Grid(20, zero=True)), gaussian, noise)
    assert min(gaussian.calls) >= 0.05 * (1 - 1e-9)
    torch.testing.assert_close(last, gaussian.flow(noise * 20, 20.0, 0.0), rtol=0, atol=0.05)


def test_condition_reaches_the_denoiser(gaussian, noise):
    condition = torch.eye(3)
    sampler = make_sampler("heun", steps=40)
    images = sample(sampler, gaussian, noise, condition)
    shift = images - sample(sampler, gaussian, noise)
    expected = torch.arange(3.0, dtype=torch.float64).reshape(3, 1, 1, 1).expand_as(noise)
    torch.testing.assert_close(shift, expected, rtol=0, atol=0.03)


def test_callback_sees_every_state_and_no_gradient_is_kept(gaussian, noise):
    states = []
    start = noise.float().requires_grad_()
    final = sample(make_sampler("unipc", steps=4), gaussian, start, callback=states.append)
    assert [state.step for state in states] == [0, 1, 2, 3, 4]
    assert torch.equal(states[-1].x, final)
    assert final.dtype == torch.float64 and not final.requires_grad


def test_samples_do_not_depend_on_the_batch(gaussian, noise):
    sampler = make_sampler("unipc", steps=6)
    assert torch.equal(sample(sampler, gaussian, noise[[2, 0]]), sample(sampler, gaussian, noise)[[2, 0]])
