import math

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.samplers import Grid, UniPC, karras_grid, sample
from skiptune.samplers.unipc_weights import difference_weights, phi


def run(sampler, denoise, state):
    while state.step < sampler.num_steps:
        state = sampler.step(denoise, state)
    return state


def observed_order(gaussian, noise, steps=(40, 80), **settings):
    errors = []
    for count in steps:
        sampler = UniPC(Grid(count + 1, "log_snr", 0.1, 10.0), lower_order_final=False, **settings)
        final = sampler.finish(run(sampler, gaussian, sampler.start(noise)))
        errors.append(float((final - gaussian.flow(noise * 10, 10.0, 0.1)).abs().max()))
    return math.log2(errors[0] / errors[1])


@pytest.mark.parametrize("prediction", ["data", "noise"])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_corrected_order_is_one_more(order, variant, prediction, gaussian, noise):
    observed = observed_order(gaussian, noise, order=order, variant=variant, prediction=prediction)
    # The low order of the first steps shows at order 3.
    assert order + (0.8 if order < 3 else 0.6) < observed < (order + 1.25 if order < 3 else 4.5)


@pytest.mark.parametrize("variant", ["bh1", "bh2", "vary_coeff"])
@pytest.mark.parametrize("order", [1, 2])
def test_order_of_the_predictor_alone(order, variant, gaussian, noise):
    observed = observed_order(gaussian, noise, order=order, variant=variant, corrector=False)
    assert observed == pytest.approx(order, abs=0.1)


def test_orders_rise_and_optionally_fall():
    falling = UniPC(Grid(6), order=3)
    assert [falling.order_at(k) for k in range(5)] == [1, 2, 3, 2, 1]
    constant = UniPC(Grid(6), order=3, lower_order_final=False)
    assert [constant.order_at(k) for k in range(5)] == [1, 2, 3, 3, 3]
    assert [UniPC(Grid(6, zero=True), order=2).order_at(k) for k in range(5)] == [1, 2, 2, 2, 1]


@pytest.mark.parametrize("corrector", [True, False])
def test_one_evaluation_per_step_at_every_level_but_the_last(corrector, gaussian, noise):
    sample(UniPC(Grid(7), corrector=corrector), gaussian, noise)
    assert gaussian.calls == karras_grid(7)[:-1].tolist()


def test_denoise_to_zero_adds_one_evaluation_of_the_plain_result(gaussian, noise):
    plain = sample(UniPC(Grid(7)), gaussian, noise)
    gaussian.calls.clear()
    final = sample(UniPC(Grid(7, zero=True)), gaussian, noise)
    assert gaussian.calls == karras_grid(7).tolist()
    assert torch.equal(final, gaussian(plain, karras_grid(7)[-1]))


def test_first_order_without_corrector_is_ddim(gaussian, noise):
    sampler = UniPC(Grid(7), order=1, corrector=False)
    x = sampler.start(noise).x
    for sigma, following in zip(sampler.sigmas[:-1], sampler.sigmas[1:], strict=True):
        x0 = gaussian(x, sigma)
        x = x0 + following / sigma * (x - x0)
    torch.testing.assert_close(sample(sampler, gaussian, noise), x)


@pytest.mark.parametrize("fork", [1, 3, 6])
def test_fork_continues_with_the_same_bits_and_steps_do_not_write(fork, gaussian, noise):
    sampler = UniPC(Grid(8), order=3)
    middle = sampler.start(noise)
    for _ in range(fork):
        middle = sampler.step(gaussian, middle)
    before = middle.clone()
    first = run(sampler, gaussian, middle)
    assert torch.equal(middle.x, before.x)
    assert all(torch.equal(a, b) for a, b in zip(middle.history, before.history, strict=True))
    assert torch.equal(run(sampler, gaussian, before).x, first.x)
    assert torch.equal(sample(sampler, gaussian, noise), first.x)


def test_inversion_comes_back(gaussian, noise):
    sampler = UniPC(Grid(60, "log_snr", 0.01, 80.0), order=3)
    images = 0.5 * noise + 0.3
    inverse = sampler.reversed()
    latent = sample(inverse, gaussian, images)
    torch.testing.assert_close(latent, gaussian.flow(images, 0.01, 80.0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sample(sampler, gaussian, latent / 80), images, rtol=0, atol=1e-3)


@pytest.mark.parametrize("h", [-3.0, -0.99, 0.01, 0.999999, 1.000001, 2.5])
def test_phi_functions(h):
    for k in (1, 2, 3, 4):
        series = math.fsum(h**j / math.factorial(j + k) for j in range(60))
        assert phi(k, h) == pytest.approx(series, rel=1e-12)


def test_corrector_weights_reproduce_the_moments():
    h, ratios = -0.7, [-0.9, -2.1]
    weights = difference_weights(ratios, h, "bh2", corrector=True)
    for power in range(3):
        moment = sum(w * r**power for w, r in zip(weights, [*ratios, 1.0], strict=True))
        assert moment == pytest.approx(math.factorial(power + 1) * h * phi(power + 2, h))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"order": 4}, "order"), ({"variant": "bh3"}, "bh1, bh2"), ({"prediction": "v"}, "data or noise")],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(SkiptuneError, match=message):
        UniPC(Grid(5), **settings)


def test_too_few_levels():
    for grid in (Grid(1), Grid(1, zero=True)):
        with pytest.raises(SkiptuneError, match="noise levels"):
            UniPC(grid)
