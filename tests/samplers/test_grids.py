import math

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.samplers import VP, Grid, Levels, iddpm_grid, karras_grid, log_snr_grid, vp_grid


class Limits:
    """A denoiser's range, with levels on multiples of `spacing`."""

    def __init__(self, sigma_min: float, sigma_max: float, spacing: float = 0.0):
        self.sigma_min, self.sigma_max, self.spacing = sigma_min, sigma_max, spacing

    def round_sigma(self, sigma):
        return (sigma / self.spacing).round() * self.spacing if self.spacing else sigma


def test_karras_grid_is_the_five_step_grid_of_the_paper():
    expected = torch.tensor([80, 17.5278, 2.5152, 0.1698, 0.002], dtype=torch.float64)
    torch.testing.assert_close(karras_grid(5), expected, atol=5e-5, rtol=0)


def test_rho_one_is_uniform_in_sigma_and_two_in_its_root():
    assert torch.allclose(karras_grid(6, 1, 9, 1).diff(), torch.tensor(-1.6, dtype=torch.float64))
    assert torch.allclose(karras_grid(5, 1, 9, 2).sqrt().diff(), torch.tensor(-0.5, dtype=torch.float64))


def test_log_snr_grid_has_a_constant_ratio():
    grid = log_snr_grid(4, 0.01, 10)
    assert torch.allclose(grid[1:] / grid[:-1], torch.tensor(0.1, dtype=torch.float64))


def test_vp_grid_is_uniform_in_the_time_of_its_schedule():
    low, high = VP().sigma(torch.tensor([1e-3, 1.0], dtype=torch.float64)).tolist()
    times = VP().time(vp_grid(5, low, high))
    assert torch.allclose(times, torch.linspace(1, 1e-3, 5, dtype=torch.float64))


def test_iddpm_grid_takes_levels_of_the_cosine_schedule():
    everything = iddpm_grid(1000, 1e-6, 1e9)
    few = iddpm_grid(10, 0.002, 81.0)
    assert all((everything == level).any() for level in few)
    assert float(few[0]) <= 81 and float(few[-1]) >= 0.002 and bool((few.diff() < 0).all())
    # Without the cap of c1 the levels are those of the cosine schedule: sigma^2 = 1 / alpha_bar - 1.
    uncapped = iddpm_grid(1000, 1e-6, 1e9, c1=1e-9)
    signal = math.sin(math.pi / 2 * 400 / 1000 / 1.008) ** 2 / math.sin(math.pi / 2 / 1.008) ** 2
    level = (1 / signal - 1) ** 0.5
    assert float((uncapped / level - 1).abs().min()) < 1e-6  # its cosines are float32
    # What EDM's sampler computes; in float64 throughout the lowest level is 0.05% away.
    official = [80.20367617799776, 0.0064224695811984575]
    assert [float(few[0]), float(few[-1])] == pytest.approx(official, rel=1e-7)


@pytest.mark.parametrize("grid", [karras_grid, log_snr_grid, vp_grid, iddpm_grid])
def test_one_level_is_the_highest_and_none_is_an_error(grid):
    single = grid(1, 0.002, 80.0)
    assert single.dtype == torch.float64 and single.shape == (1,)
    assert float(single) == pytest.approx(float(grid(9, 0.002, 80.0)[0]))
    with pytest.raises(SkiptuneError, match="at least 1 level"):
        grid(0, 0.002, 80.0)
    with pytest.raises(SkiptuneError, match="sigma_min"):
        grid(5, 80.0, 0.002)


def test_wrong_kind_and_rho_are_named():
    with pytest.raises(SkiptuneError, match="karras"):
        _ = Grid(5, "linear").sigmas
    with pytest.raises(SkiptuneError, match="rho"):
        karras_grid(5, rho=0)
    with pytest.raises(SkiptuneError, match="widen"):
        iddpm_grid(5, 1e-9, 1e-8)


def test_fitting_clips_the_range_before_it_spaces_the_levels():
    fitted = Grid(5, zero=True).fitted(Limits(0.02, 10))
    torch.testing.assert_close(fitted.sigmas[:-1], karras_grid(5, 0.02, 10))
    assert fitted.values[-1] == 0
    assert fitted.fitted(Limits(0.02, 10)) == fitted


def test_fitting_rounds_to_the_levels_of_the_denoiser():
    fitted = Grid(4, sigma_min=1, sigma_max=8, rho=1, zero=True).fitted(Limits(0.5, 8, spacing=0.5))
    assert fitted.values == (8.0, 5.5, 3.5, 1.0, 0.0)


def test_explicit_levels_outside_the_range_are_refused():
    with pytest.raises(SkiptuneError, match="outside"):
        Levels((20.0, 1.0)).fitted(Limits(0.02, 10))


@pytest.mark.parametrize("grid", [Grid(4, zero=True), Levels((3.0, 2.0, 1.0, 0.0))])
def test_reversed_leaves_the_zero_out(grid):
    assert grid.reversed().sigmas.tolist() == grid.sigmas[:-1].flip(0).tolist()
