import pytest

from skiptune.errors import SkiptuneError
from skiptune.samplers import (
    DDIM,
    DDPM,
    FPNDM,
    SAMPLERS,
    SDE,
    SPNDM,
    VP,
    Churn,
    Euler,
    Grid,
    Heun,
    Timesteps,
    UniPC,
    known_settings,
    make_sampler,
)

DISCRETE = {"ddim", "ddpm", "s_pndm", "f_pndm"}


def test_settings_reach_the_sampler():
    assert make_sampler("euler", steps=5) == Euler(Grid(5, zero=True))
    assert make_sampler(
        "heun",
        steps=8,
        sigma_min=0.01,
        rho=5,
        S_churn=2,
        schedule="vp",
        variance_preserving=True,
        alpha=0.5,
    ) == Heun(Grid(8, "karras", 0.01, 80.0, 5, zero=True), VP(), Churn(S_churn=2), 0.5)
    assert make_sampler(
        "unipc", steps=8, grid="log_snr", order=2, variant="bh2", corrector=False, denoise_to_zero=True
    ) == UniPC(Grid(9, "log_snr", zero=True), order=2, variant="bh2", corrector=False)
    assert make_sampler("sde", steps=6, sigma_min=0.01, tau=0.5, order=2) == SDE(
        Grid(6, sigma_min=0.01, zero=True), tau=0.5, order=2
    )


def test_settings_reach_the_samplers_of_discrete_models():
    ddim = make_sampler("ddim", steps=20, offset=1, end="first", eta=0.5)
    assert isinstance(ddim, DDIM) and ddim.eta == 0.5
    assert ddim.timesteps == Timesteps(20, "uniform", 1, "first")
    ddpm = make_sampler("ddpm", steps=20, spacing="quad", variance="small", clip=False)
    assert isinstance(ddpm, DDPM) and (ddpm.variance, ddpm.clip) == ("small", False)
    assert ddpm.timesteps == Timesteps(20, "quad")
    for name, kind in (("s_pndm", SPNDM), ("f_pndm", FPNDM)):
        sampler = make_sampler(name, steps=20, spacing="quad", indexing="matched")
        assert type(sampler) is kind and sampler.indexing == "matched"
        assert sampler.timesteps == Timesteps(20, "quad")


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_needs_steps_and_names_what_it_knows(name):
    grid = {"spacing"} if name in DISCRETE else {"sigma_min", "sigma_max", "rho"}
    assert {"steps", *grid} <= set(known_settings(name))
    with pytest.raises(SkiptuneError, match="steps"):
        make_sampler(name)
    with pytest.raises(SkiptuneError, match="stepz.*it knows steps"):
        make_sampler(name, steps=3, stepz=4)
    for steps in (0, -2):
        with pytest.raises(SkiptuneError, match="step"):
            make_sampler(name, steps=steps)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(
        SkiptuneError, match="consistency, ddim, ddpm, euler, f_pndm, heun, s_pndm, sde, unipc"
    ):
        make_sampler("dpm", steps=3)
    with pytest.raises(SkiptuneError, match="linear, ve, vp"):
        make_sampler("heun", steps=3, schedule="cosine")
    with pytest.raises(SkiptuneError, match="log_snr"):
        make_sampler("unipc", steps=3, grid="cosine")
