import json
import math
from pathlib import Path

import pytest
import torch

from experiments.golden.discrete_samplers import check_pndm
from skiptune.denoisers.discrete import vp_alphas
from skiptune.errors import SkiptuneError
from skiptune.samplers import (
    FON,
    FPNDM,
    SPNDM,
    DiscreteSchedule,
    Timesteps,
    bind,
    make_sampler,
    sample,
    uniform_times,
)

SHARED = Path(__file__).parents[3] / "shared/golden"
DDPM_ALPHAS = vp_alphas("linear", 1e-4, 0.02)
METHODS = [SPNDM, FPNDM, FON]


def run(sampler, denoise, state, last=None):
    while state.step < (sampler.num_steps if last is None else last):
        state = sampler.step(denoise, state)
    return state


# The paper proves order 2 for both pseudo methods. FON's slope is a difference over one unit of time, here
# half a step, which makes it first order.
@pytest.mark.parametrize(("method", "order"), [(SPNDM, 2), (FPNDM, 2), (FON, 1)])
def test_order_of_convergence(method, order, log_linear, gaussian, noise):
    errors = []
    for count in (40, 80):
        # One time in two is visited, so that halfway there is a time of the schedule.
        alphas = log_linear(2 * count + 1)
        sampler = method.along(Timesteps(count), DiscreteSchedule(tuple(alphas.tolist())), "matched")
        start = sampler.start(noise)
        before_last = sampler.num_steps - 1
        final = run(sampler, gaussian, start, before_last).x
        ends = float(sampler.sigmas[0]), float(sampler.sigmas[before_last])
        errors.append(float((final - gaussian.flow(start.x, *ends)).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize(("method", "extra"), [("s_pndm", 1), ("f_pndm", 9)])
def test_every_evaluation_is_counted(method, extra, discrete_gaussian, noise):
    denoiser = discrete_gaussian(DDPM_ALPHAS)
    sample(make_sampler(method, steps=10), denoiser, noise)
    assert denoiser.nfe == len(denoiser.model.times) == 10 + extra


def test_times_that_the_network_is_told(discrete_gaussian, noise):
    denoiser = discrete_gaussian(DDPM_ALPHAS)
    sample(make_sampler("s_pndm", steps=8), denoiser, noise)
    assert denoiser.model.times == [875, 750, 750, 625, 500, 375, 250, 125, 0]
    denoiser.model.times.clear()
    sample(make_sampler("f_pndm", steps=8), denoiser, noise)
    assert denoiser.model.times[:12] == [
        875, 812.5, 812.5, 750, 750, 687.5, 687.5, 625, 625, 562.5, 562.5, 500,
    ]  # fmt: skip
    assert denoiser.model.times[12:] == [500, 375, 250, 125, 0]


def official(network, x, method, steps):
    """PNDM's program on variance-preserving samples, from the paper's eq. 9-14 and its use of the table."""
    table = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    seq = [*reversed(uniform_times(1000, steps)), -1]

    def eps(x, t):
        return network(x.float(), torch.full((len(x),), float(t))).double()

    def transfer(x, t, to, e):
        a, b = float(table[int(t) + 1]), float(table[int(to) + 1])
        return math.sqrt(b / a) * x + (math.sqrt(1 - b) - math.sqrt(b * (1 - a) / a)) * e

    past, xs = [], []
    for t, to in zip(seq, seq[1:], strict=False):
        e = eps(x, t)
        if method == "s_pndm":
            mean = (3 * e - past[-1]) / 2 if past else (e + eps(transfer(x, t, to, e), to)) / 2
        elif len(past) >= 3:
            mean = (55 * e - 59 * past[-1] + 37 * past[-2] - 9 * past[-3]) / 24
        else:
            half = (t + to) / 2
            e2 = eps(transfer(x, t, half, e), half)
            e3 = eps(transfer(x, t, half, e2), half)
            mean = (e + 2 * e2 + 2 * e3 + eps(transfer(x, t, to, e3), to)) / 6
        past.append(e)
        x = transfer(x, t, to, mean)
        xs.append(x)
    return xs


@pytest.mark.parametrize("steps", [8, 10, 15])
@pytest.mark.parametrize("method", ["s_pndm", "f_pndm"])
def test_states_are_those_of_the_variance_preserving_program(method, steps, discrete_gaussian, noise):
    denoiser = discrete_gaussian(DDPM_ALPHAS)
    sampler = make_sampler(method, steps=steps).fitted(denoiser)
    state = sampler.start(noise)
    for x in official(denoiser.model, noise, method, steps):
        state = sampler.step(bind(denoiser), state)
        torch.testing.assert_close(sampler.finish(state), x, rtol=1e-5, atol=1e-5)
    assert state.step == sampler.num_steps


@pytest.mark.parametrize("indexing", ["official", "matched"])
@pytest.mark.parametrize("method", METHODS)
def test_fork_continues_with_the_same_bits_and_steps_do_not_write(method, indexing, gaussian, noise):
    sampler = method.along(Timesteps(12), indexing=indexing)
    middle = run(sampler, gaussian, sampler.start(noise), 6)
    kept = middle.clone()
    ends = [run(sampler, gaussian, middle).x for _ in range(2)]
    assert torch.equal(*ends) and torch.equal(middle.x, kept.x)
    assert all(torch.equal(a, b) for a, b in zip(middle.history, kept.history, strict=True))
    assert torch.equal(run(sampler, gaussian, sampler.start(noise)).x, ends[0])


def test_indexing_of_the_schedule(discrete_gaussian):
    denoiser = discrete_gaussian(DDPM_ALPHAS)
    times = torch.tensor(list(reversed(uniform_times(1000, 10))))
    official, matched = (
        make_sampler("s_pndm", steps=10, indexing=indexing).fitted(denoiser)
        for indexing in ("official", "matched")
    )
    torch.testing.assert_close(official.sigmas[:-1], denoiser.sigmas[times + 1])
    assert float(official.sigmas[-1]) == float(denoiser.sigmas[0])
    torch.testing.assert_close(matched.sigmas[:-1], denoiser.sigmas[times])
    assert float(matched.sigmas[-1]) == 0


def test_a_thousand_steps_continue_the_table(discrete_gaussian, noise):
    denoiser = discrete_gaussian(DDPM_ALPHAS)
    sampler = make_sampler("s_pndm", steps=1000).fitted(denoiser)
    assert float(sampler.sigmas[0]) > denoiser.sigma_max == float(sampler.sigmas[1])
    assert sample(sampler, denoiser, noise[:1]).isfinite().all()
    assert max(denoiser.model.times) == 999


def test_wrong_settings_are_explained():
    with pytest.raises(SkiptuneError, match="FPNDM needs 4 steps, got 2"):
        make_sampler("f_pndm", steps=2)
    with pytest.raises(SkiptuneError, match="SPNDM needs 2 steps, got 1"):
        make_sampler("s_pndm", steps=1)
    with pytest.raises(SkiptuneError, match="choose one of official, matched"):
        make_sampler("s_pndm", steps=10, indexing="shifted")
    with pytest.raises(SkiptuneError, match="has no inversion"):
        make_sampler("s_pndm", steps=10).reversed()


def test_parity_with_the_official_program():
    if not (SHARED / "manifest.json").exists():
        pytest.skip("no reference data beside the repository")
    entries = json.loads((SHARED / "manifest.json").read_text())["cases"]
    entry = next(entry for entry in entries if entry["case"] == "pndm")
    results = list(check_pndm(SHARED / "pndm", entry))
    outputs = {name for name, io in entry["io"].items() if io["role"] == "output"}
    assert outputs <= {result.tensor for result in results}
    assert sum("n_network_calls" in result.tensor for result in results) == 8
    assert [result for result in results if not result.passed] == []
