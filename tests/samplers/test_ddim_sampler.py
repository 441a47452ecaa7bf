import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.golden.ddim import build_ddim
from experiments.golden.discrete_samplers import check_ddim_sampler
from skiptune.denoisers.ddim import ddim_state
from skiptune.denoisers.discrete import vp_alphas
from skiptune.errors import SkiptuneError
from skiptune.samplers import (
    DDIM,
    DDPM,
    DiscreteSchedule,
    Euler,
    Grid,
    Levels,
    Timesteps,
    UniPC,
    bind,
    ddpm_schedule,
    make_sampler,
    quad_times,
    sample,
    step_noise,
    uniform_times,
)

KEPT, SHARED = Path(__file__).parents[1] / "data/golden", Path(__file__).parents[3] / "shared/golden"
DDPM_ALPHAS = vp_alphas("linear", 1e-4, 0.02)


def noise_at(step):
    return step_noise(range(3), step, (1, 4, 4))


def run(sampler, denoise, state):
    while state.step < sampler.num_steps:
        state = sampler.step(denoise, state, noise_at)
    return state


def test_without_noise_it_is_euler(gaussian, noise):
    grid = Grid(12, zero=True)
    ddim, euler = DDIM(grid), Euler(grid)
    states = ddim.start(noise), euler.start(noise)
    for _ in range(12):
        states = ddim.step(gaussian, states[0]), euler.step(gaussian, states[1])
        torch.testing.assert_close(states[0].x, states[1].x, rtol=1e-12, atol=1e-12)


def test_order_of_convergence(gaussian, noise):
    def error(count):
        sampler = DDIM(Grid(count + 1, sigma_min=0.1, sigma_max=10.0))
        final = run(sampler, gaussian, sampler.start(noise)).x
        return float((final - gaussian.flow(noise * 10, 10.0, 0.1)).abs().max())

    assert math.log2(error(60) / error(120)) == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("rule", ["euler", "heun", "unipc", "ddim", "s_pndm", "f_pndm"])
def test_every_sampler_runs_a_discrete_model(rule, prediction, discrete_gaussian, gaussian, noise):
    denoiser = discrete_gaussian(DDPM_ALPHAS, prediction)
    sampler = make_sampler(rule, steps=200 if rule == "ddim" else 50)
    levels = sampler.fitted(denoiser).sigmas
    images = sample(sampler, denoiser, noise)
    first = sampler.fitted(denoiser).start(noise).x
    exact = gaussian.flow(first, float(levels[0]), float(levels[-1]))
    torch.testing.assert_close(images, exact, rtol=0, atol=0.2 if rule == "euler" else 0.03)
    if "pndm" not in rule:
        assert all(time == round(time) for time in denoiser.model.times)


def official_step(eps, x, abar, abar_next, eta, noise):
    """Variance-preserving DDIM (Song et al. 2021, eq. 12 and 16)."""
    x0 = (x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)
    c = eta * math.sqrt((1 - abar / abar_next) * (1 - abar_next) / (1 - abar))
    return math.sqrt(abar_next) * x0 + math.sqrt(1 - abar_next - c**2) * eps + c * noise


def official_ancestral(eps, x, abar, abar_next, noise):
    """Variance-preserving DDPM: posterior mean of the clipped x0 and variance beta (Ho et al. 2020)."""
    x0 = ((x - math.sqrt(1 - abar) * eps) / math.sqrt(abar)).clamp(-1, 1)
    beta = 1 - abar / abar_next
    mean = (math.sqrt(abar_next) * beta * x0 + math.sqrt(1 - beta) * (1 - abar_next) * x) / (1 - abar)
    return mean + (math.sqrt(beta) * noise if abar_next < 1 else 0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, "ddpm"])
def test_steps_are_those_of_the_variance_preserving_formulas(eta, discrete_gaussian, noise):
    denoiser = discrete_gaussian(DDPM_ALPHAS)
    name, settings = ("ddpm", {}) if eta == "ddpm" else ("ddim", {"eta": eta})
    sampler = make_sampler(name, steps=10, spacing="quad", **settings).fitted(denoiser)
    times = [*reversed(quad_times(1000, 10)), -1]
    state, x = sampler.start(noise), noise
    for k in range(10):
        abar = float(DDPM_ALPHAS[times[k]])
        abar_next = 1.0 if times[k + 1] < 0 else float(DDPM_ALPHAS[times[k + 1]])
        eps = denoiser.model(x.float(), torch.full((3,), times[k]))
        if eta == "ddpm":
            x = official_ancestral(eps, x, abar, abar_next, noise_at(k))
        else:
            x = official_step(eps, x, abar, abar_next, eta, noise_at(k))
        state = sampler.step(bind(denoiser), state, noise_at)
        torch.testing.assert_close(sampler.finish(state), x, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("variance", ["large", "small"])
def test_variance_of_ancestral_samples(variance, discrete_gaussian):
    noise = torch.randn(200, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sampler = make_sampler("ddpm", steps=250, variance=variance, clip=False)
    images = sample(
        sampler,
        discrete_gaussian(DDPM_ALPHAS),
        noise,
        noise_at=lambda step: torch.randn(noise.shape, generator=torch.Generator().manual_seed(step)),
    )
    assert float(images.mean()) == pytest.approx(0.3, abs=0.03)
    assert float(images.std()) == pytest.approx(0.5, abs=0.03)


def test_full_eta_is_the_smaller_variance_of_ddpm(gaussian, noise):
    grid = Grid(8, zero=True)
    for a, b in zip(DDIM(grid, 1.0).spread, DDPM(grid, "small").spread, strict=True):
        assert float(a) == pytest.approx(float(b))
    torch.testing.assert_close(
        sample(DDIM(grid, 1.0), gaussian, noise, noise_at=noise_at),
        sample(DDPM(grid, "small", clip=False), gaussian, noise, noise_at=noise_at),
    )


def test_deterministic_without_noise_and_refused_without_noise_at(gaussian, noise):
    grid = Grid(6, zero=True)
    assert torch.equal(
        sample(DDIM(grid), gaussian, noise), sample(DDIM(grid), gaussian, noise, noise_at=noise_at)
    )
    for sampler in (DDIM(grid, 0.5), DDPM(grid)):
        with pytest.raises(SkiptuneError, match="pass noise_at"):
            sample(sampler, gaussian, noise)
        assert torch.equal(*(sample(sampler, gaussian, noise, noise_at=noise_at) for _ in range(2)))


@pytest.mark.parametrize("sampler", [DDIM(Grid(6, zero=True), 0.7), DDPM(Grid(6, zero=True))])
def test_fork_continues_with_the_same_bits_and_steps_do_not_write(sampler, gaussian, noise):
    middle = sampler.start(noise)
    for _ in range(3):
        middle = sampler.step(gaussian, middle, noise_at)
    kept = middle.clone()
    ends = [run(sampler, gaussian, middle).x for _ in range(2)]
    assert torch.equal(*ends) and torch.equal(middle.x, kept.x)
    assert torch.equal(run(sampler, gaussian, sampler.start(noise)).x, ends[0])


@pytest.mark.parametrize(("steps", "nfe"), [(10, 10), (400, 500), (15, 16), (1000, 1000)])
def test_uniform_times_and_their_evaluations(steps, nfe, discrete_gaussian, noise):
    denoiser = discrete_gaussian(DDPM_ALPHAS)
    sample(make_sampler("ddim", steps=steps), denoiser, noise[:1])
    assert denoiser.nfe == nfe == len(uniform_times(1000, steps))
    assert denoiser.model.times == [float(t) for t in reversed(uniform_times(1000, steps))]


def test_quadratic_times():
    assert quad_times(1000, 10) == (0, 9, 39, 88, 158, 246, 355, 483, 632, 800)
    assert quad_times(1000, 1) == (0,)
    # Times that the official program visits repeatedly, to no effect, are visited once.
    assert quad_times(1000, 50)[:4] == (0, 0, 1, 2)
    assert Timesteps(50, "quad").times(1000)[:3] == (0, 1, 2)


def test_discretisation_of_latent_diffusion(discrete_gaussian, noise):
    alphas = vp_alphas("scaled_linear", 0.0015, 0.0195)
    denoiser = discrete_gaussian(alphas)
    sampler = make_sampler("ddim", steps=20, offset=1, end="first").fitted(denoiser)
    times = [*range(951, 0, -50), 0]
    torch.testing.assert_close(1 / (1 + sampler.sigmas**2), alphas[times])
    # The sample keeps the variance-preserving scale of its last level.
    torch.testing.assert_close(
        sampler.finish(sampler.start(noise)), noise, rtol=1e-12, atol=1e-12, msg="unit variance at the start"
    )
    final = run(sampler, bind(denoiser), sampler.start(noise))
    torch.testing.assert_close(sampler.finish(final), final.x * alphas[0].sqrt())


def test_a_continuous_model_takes_the_ddpm_levels_inside_its_range(gaussian, noise):
    gaussian.sigma_min, gaussian.sigma_max = 0.05, 20.0
    sampler = make_sampler("ddim", steps=50).fitted(gaussian)
    inside = ddpm_schedule().sigmas
    inside = inside[(inside >= 0.05) & (inside <= 20)]
    assert float(sampler.sigmas[-2]) == float(inside[0]) and sampler.sigmas[-1] == 0
    assert set(sampler.sigmas[:-1].tolist()) <= set(inside.tolist())
    images = sample(sampler, gaussian, noise)
    exact = gaussian.flow(sampler.start(noise).x, float(sampler.sigmas[0]), 0.0)
    torch.testing.assert_close(images, exact, rtol=0, atol=0.05)


def test_inversion_and_back(discrete_gaussian, noise):
    denoiser = discrete_gaussian(DDPM_ALPHAS)
    forward = make_sampler("ddim", steps=500)
    image = sample(forward, denoiser, noise)
    inverse = forward.reversed().fitted(denoiser)
    assert inverse.ascending and float(inverse.sigmas[0]) == pytest.approx(denoiser.sigma_min)
    sigma = float(inverse.sigmas[-1])
    found = sample(forward.reversed(), denoiser, image) / math.sqrt(1 + sigma**2)
    torch.testing.assert_close(found, noise, rtol=0, atol=0.05)
    assert forward.reversed().reversed() == forward or forward.reversed().reversed().ascending is False


def test_sigma_of_a_time():
    schedule = DiscreteSchedule(tuple(DDPM_ALPHAS.tolist()))
    assert schedule.num_timesteps == 1000
    assert schedule.sigma(0) == pytest.approx(0.01, rel=1e-4)
    assert schedule.sigma(999) == pytest.approx(157.4, rel=1e-3)
    assert schedule.sigma(10.5) ** 2 == pytest.approx(schedule.sigma(10) * schedule.sigma(11))
    assert schedule.sigma(1000) / schedule.sigma(999) == pytest.approx(
        schedule.sigma(999) / schedule.sigma(998)
    )
    assert schedule == ddpm_schedule()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_sampler("ddim", steps=10, eta=1.5), "eta of DDIM is in"),
        (lambda: make_sampler("ddim", steps=10, spacing="cosine"), "choose one of uniform, leading, quad"),
        (lambda: make_sampler("ddim", steps=10, end="last"), "choose one of zero, first"),
        (lambda: make_sampler("ddim", steps=10, end="first"), "with end first at least 1"),
        (
            lambda: make_sampler("ddim", steps=3, offset=1, end="first"),
            "reach time 1000, the last one is 999",
        ),
        (lambda: make_sampler("ddim", steps=1001), "more than the 1000 times"),
        (lambda: make_sampler("ddim", steps=10, eta=0.5).reversed(), "set eta to 0"),
        (lambda: make_sampler("ddpm", steps=10).reversed(), "use ddim with eta 0"),
        (lambda: make_sampler("ddpm", steps=10, variance="learned"), "choose large or small"),
        (lambda: DiscreteSchedule((0.5, 0.6)), "fall strictly inside"),
        (lambda: DDIM(Levels((1.0, 2.0, 0.0))), "strictly"),
    ],
)
def test_wrong_settings_are_explained(make, message):
    with pytest.raises(SkiptuneError, match=message):
        make()


def test_equal_settings_are_equal_samplers(gaussian):
    assert make_sampler("ddim", steps=10) == make_sampler("ddim", steps=10)
    assert make_sampler("ddim", steps=10) != make_sampler("ddim", steps=10, eta=1.0)
    assert UniPC(Grid(4)) != DDIM(Grid(4))


def test_parity_with_the_official_program():
    if not (SHARED / "manifest.json").exists():
        pytest.skip("no reference data beside the repository")
    entries = json.loads((SHARED / "manifest.json").read_text())["cases"]
    entry = next(entry for entry in entries if entry["case"] == "ddim_sampler")
    results = list(check_ddim_sampler(SHARED / "ddim_sampler", entry))
    assert len(results) == sum(io["role"] == "output" for io in entry["io"].values())
    assert [result for result in results if not result.passed] == []


@torch.no_grad()
def test_repeated_times_are_compared_visit_by_visit(tmp_path):
    """Quadratic times repeat near 0; the official loop visits them again, draws noise, records the state."""
    seq, eta = quad_times(100, 33), 0.7
    assert [seq.count(time) for time in (0, 1, 2)] == [4, 2, 1]
    cases = json.loads((KEPT / "manifest.json").read_text())["cases"]
    lender = next(case for case in cases if case["case"] == "ddim_unet_deep")
    (tmp_path / "manifest.json").write_text(json.dumps({"cases": [lender]}))
    (tmp_path / "ddim_unet_deep").symlink_to(KEPT / "ddim_unet_deep")
    network = build_ddim(lender["constructor"]).eval()
    network.load_state_dict(ddim_state(load_file(KEPT / "ddim_unet_deep/weights.safetensors")))

    betas = torch.linspace(1e-3, 0.1, 100)
    abar = [*(1 - betas).cumprod(0).tolist(), 1.0]
    x_T, noise = torch.randn(2, 3, 16, 16), torch.randn(33, 2, 3, 16, 16)
    x, xs, x0 = x_T, [], []
    for k, time in enumerate(reversed(seq)):
        eps = network(x, torch.full((2,), float(time)))
        x0.append((x - math.sqrt(1 - abar[time]) * eps) / math.sqrt(abar[time]))
        x = official_step(eps, x, abar[time], abar[[*reversed(seq), -1][k + 1]], eta, noise[k])
        xs.append(x)
    run = "quad33"
    recorded = {"seq": torch.tensor(seq), "xs": torch.stack(xs), "x0": torch.stack(x0)}
    (case := tmp_path / "case").mkdir()
    io = {"betas": betas, "x_T": x_T, "noise": noise} | {f"{run}/{key}": recorded[key] for key in recorded}
    save_file(io, case / "io.safetensors")
    entry = {
        "case": "case",
        "weights_from": "ddim_unet_deep",
        "io": {f"{run}/{key}": {"role": "output", "rtol": 1e-4, "atol": 1e-3} for key in recorded},
        "runs": {run: {"function": "generalized_steps", "arguments": {"eta": eta}, "noise": "noise"}},
    }
    results = {result.tensor: result for result in check_ddim_sampler(case, entry)}
    assert len(results) == 3 and all(result.passed for result in results.values()), results
