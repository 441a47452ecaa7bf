import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.interventions import (
    FreeU,
    SkipTuning,
    TimeSchedule,
    Window,
    attach_intervention,
    find_skip_sites,
    interpolate_rho,
)
from skiptune.interventions.build import INTERVENTIONS, Intervention, as_floats, complete_settings
from skiptune.runtime.generation import named_intervention

LEVELS = (80.0, 2.5, 0.5, 0.0)


@pytest.fixture(scope="module")
def setting(golden):
    _, denoiser, io = golden("edm_song_straddle")
    return denoiser, find_skip_sites(denoiser), io["x"][2], torch.tensor(2.5)


def test_none_leaves_the_network_alone(setting):
    denoiser, _, x, sigma = setting
    untouched = denoiser(x, sigma)
    residual = {"name": "skip_tuning", "place": "residual"}
    for settings in ({"name": "none"}, {"name": "skip_tuning"}, residual, {"name": "freeu"}):
        with attach_intervention(settings, denoiser, LEVELS):
            assert torch.equal(denoiser(x, sigma), untouched)


@pytest.mark.parametrize(
    ("settings", "place", "schedules"),
    [
        ({}, "input", ()),
        ({"place": "norm0_output"}, "norm0_output", ()),
        ({"time_direction": "increasing"}, "input", (TimeSchedule("increasing", LEVELS[:3]),)),
        ({"sigma_high": 1.0}, "input", (Window(0.0, 1.0),)),
        (
            {"time_direction": "decreasing", "time_axis": "sigma", "sigma_low": 1},
            "input",
            (TimeSchedule("decreasing", LEVELS[:3], "sigma"), Window(1.0, float("inf"))),
        ),
    ],
)
def test_settings_make_the_intervention(setting, settings, place, schedules):
    denoiser, sites, x, sigma = setting
    rho = interpolate_rho([site.matching for site in sites], 0.5, 0.9, "matching")
    with SkipTuning(rho, place, schedules).attached_to(denoiser):
        expected = denoiser(x, sigma)
    settings = {"name": "skip_tuning", "rho_bottom": 0.5, "rho_top": 0.9, "reading": "matching", **settings}
    with attach_intervention(settings, denoiser, LEVELS):
        assert torch.equal(denoiser(x, sigma), expected)


def test_settings_make_freeu(setting):
    denoiser, _, x, sigma = setting
    with FreeU(1.2, 0.9, 0.8, 0.5, "map").attached_to(denoiser):
        expected = denoiser(x, sigma)
    settings = {"b1": 1.2, "b2": 0.9, "s1": 0.8, "s2": 0.5, "variant": "map"}
    with attach_intervention({"name": "freeu", **settings}, denoiser, LEVELS):
        assert torch.equal(denoiser(x, sigma), expected)
    assert not torch.equal(denoiser(x, sigma), expected)


def test_complete_settings_are_canonical():
    whole = complete_settings({"name": "skip_tuning", "rho_bottom": 0.8, "rho_top": 1, "sigma_low": 1})
    assert whole["reading"] == "inclusive" and whole["place"] == "input" and whole["sigma_high"] is None
    assert [type(whole[key]) for key in ("rho_bottom", "rho_top", "sigma_low")] == [float] * 3
    assert complete_settings(whole) == whole
    assert complete_settings({"name": "none"}) == {"name": "none"}
    assert type(complete_settings({"name": "freeu", "b1": 2})["b1"]) is float


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {},
            "unknown intervention None; choose one of none, skip_tuning, skip_coefficients, freeu, "
            "epsilon_scaling",
        ),
        ({"name": "magic"}, "unknown intervention 'magic'"),
        ({"name": "freeu", "b": 1.2}, "has no setting b; it has b1, b2, s1, s2, variant, by"),
        ({"name": "freeu", "b1": "1.2"}, "b1 is '1.2', it must be a number"),
        ({"name": "freeu", "s2": -0.1}, "s2 of FreeU is -0.1, it must be a finite number from 0 up"),
        ({"name": "freeu", "variant": "x"}, "unknown variant 'x' of FreeU; choose one of constant, map"),
        ({"name": "skip_tuning", "rho": 0.8}, "has no setting rho; it has rho_bottom"),
        ({"name": "none", "rho_bottom": 0.8}, "intervention none has no setting rho_bottom; it has none"),
        ({"name": "skip_tuning", "rho_bottom": 1.2}, r"rho_bottom is 1.2, it must lie in \(0, 1\]"),
        ({"name": "skip_tuning", "rho_bottom": "0.8"}, "rho_bottom is '0.8', it must be a number"),
        ({"name": "skip_tuning", "place": "output"}, "unknown place 'output'"),
        ({"name": "skip_tuning", "reading": "x"}, "unknown reading 'x'"),
        ({"name": "skip_tuning", "time_direction": "up"}, "unknown time direction 'up'"),
        ({"name": "skip_tuning", "time_axis": "time"}, "unknown time axis 'time'"),
        ({"name": "skip_tuning", "sigma_low": 3, "sigma_high": 1}, "is empty"),
    ],
)
def test_mistakes_are_one_line(settings, line):
    with pytest.raises(SkiptuneError, match=line) as caught:
        complete_settings(settings)
    assert "\n" not in str(caught.value)


def test_a_further_intervention_is_one_entry(setting, monkeypatch):
    denoiser, _, x, sigma = setting
    everywhere = Intervention(
        {"rho": 1.0},
        complete=lambda settings: as_floats(settings, "rho"),
        neutral=lambda settings: settings["rho"] == 1,
        attach=lambda settings, network, levels: SkipTuning.interpolated(*[settings["rho"]] * 2).attached_to(
            network
        ),
    )
    monkeypatch.setitem(INTERVENTIONS, "everywhere", everywhere)
    assert named_intervention({"name": "everywhere", "rho": 1}) == {"name": "none"}
    with pytest.raises(SkiptuneError, match="everywhere has no setting b; it has rho"):
        complete_settings({"name": "everywhere", "b": 1})
    with SkipTuning.interpolated(0.5, 0.5).attached_to(denoiser):
        expected = denoiser(x, sigma)
    with attach_intervention({"name": "everywhere", "rho": 0.5}, denoiser, LEVELS):
        assert torch.equal(denoiser(x, sigma), expected)
