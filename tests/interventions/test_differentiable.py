"""Coefficients with a gradient do what Skip-Tuning does; coefficients by site as an intervention by name."""

from __future__ import annotations

import pytest
import torch

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, attach_intervention, find_skip_sites
from skiptune.interventions.build import complete_settings
from skiptune.interventions.differentiable import scaled_skips
from skiptune.interventions.effect import effect
from skiptune.runtime.generation import named_intervention


@pytest.fixture(scope="module")
def network():
    denoiser = load_desk_denoiser("edm_digits_uncond").denoiser
    x = torch.randn(2, *denoiser.image_shape, generator=torch.Generator().manual_seed(0))
    return denoiser, find_skip_sites(denoiser), x, torch.tensor(1.5)


def test_scaled_skips_are_those_of_skip_tuning_above_one_too(network):
    denoiser, sites, x, sigma = network
    untouched = denoiser(x, sigma)
    rho = torch.linspace(0.6, 1.4, len(sites), requires_grad=True)
    with SkipTuning(tuple(rho.tolist())).attached_to(denoiser):
        expected = denoiser(x, sigma)
    with scaled_skips(denoiser, sites, rho):
        scaled = denoiser(x, sigma)
    torch.testing.assert_close(scaled, expected)
    scaled.square().sum().backward()
    assert (rho.grad != 0).all()
    with scaled_skips(denoiser, sites, torch.ones(len(sites))):
        assert torch.equal(denoiser(x, sigma), untouched)
    assert torch.equal(denoiser(x, sigma), untouched)
    with pytest.raises(
        SkiptuneError, match=f"5 skip coefficients for a network with {len(sites)} skip sites"
    ):
        scaled_skips(denoiser, sites, torch.ones(5))


def test_coefficients_by_site_from_settings(network):
    denoiser, sites, x, sigma = network
    untouched = denoiser(x, sigma)
    rho = [0.5 + 0.2 * i for i in range(len(sites))]
    with SkipTuning(tuple(rho)).attached_to(denoiser):
        expected = denoiser(x, sigma)
    settings = {"name": "skip_coefficients", "rho": rho}
    with attach_intervention(settings, denoiser, []):
        assert torch.equal(denoiser(x, sigma), expected)
    for neutral in (None, [1.0] * len(sites)):
        with attach_intervention({"name": "skip_coefficients", "rho": neutral}, denoiser, []):
            assert torch.equal(denoiser(x, sigma), untouched)
    assert named_intervention(settings) == settings
    assert effect(settings, [], []) != effect({**settings, "rho": rho[::-1]}, [], [])
    # 1 and 1.0 name the same run.
    assert complete_settings({**settings, "rho": [1]}) == complete_settings({**settings, "rho": [1.0]})


@pytest.mark.parametrize(
    ("neutral", "acting"),
    [
        ({"name": "none"}, []),
        ({"name": "skip_tuning", "place": "residual"}, [{"rho_bottom": 0.9}, {"rho_top": 0.9}]),
        ({"name": "skip_coefficients"}, [{"rho": [1.0, 0.9]}, {"rho": [1.1, 1.0]}, {"rho": []}]),
        ({"name": "skip_coefficients", "rho": [1, 1.0]}, []),
        ({"name": "freeu", "by": "width"}, [{name: 0.9} for name in ("b1", "b2", "s1", "s2")]),
        ({"name": "epsilon_scaling", "scale": 1, "tau": 0.5}, [{"scale": 1.01}, {"skip": 10}]),
    ],
)
def test_what_leaves_the_network_as_it_is_runs_as_without_intervention(neutral, acting):
    assert named_intervention(neutral) == {"name": "none"} and effect(neutral, [], []) is None
    for change in acting:
        settings = {**neutral, **change}
        assert named_intervention(settings) == complete_settings(settings)
        assert effect(settings, [2.0, 1.0], [2.0]) is not None


@pytest.mark.parametrize(
    ("rho", "message"),
    [
        ("0.7", "it must be a list with a number for every site"),
        (0.7, "it must be a list with a number for every site"),
        ([0.7, "x"], "rho is 'x', it must be a number"),
        ([0.7, -1.0], "skip coefficients must be positive and finite"),
    ],
)
def test_coefficients_that_cannot_be(rho, message):
    with pytest.raises(SkiptuneError, match=message) as caught:
        complete_settings({"name": "skip_coefficients", "rho": rho})
    assert "\n" not in str(caught.value)
