"""Samplers as pure step functions over copyable states."""

from skiptune.samplers.consistency import Consistency
from skiptune.samplers.ddim import DDIM, DDPM
from skiptune.samplers.discrete_grids import (
    DiscreteSchedule,
    Timesteps,
    ddpm_schedule,
    quad_times,
    uniform_times,
)
from skiptune.samplers.grids import Grid, Levels, iddpm_grid, karras_grid, log_snr_grid, vp_grid
from skiptune.samplers.heun import Churn, Euler, Heun
from skiptune.samplers.inversion import invert
from skiptune.samplers.noise import initial_noise, step_noise
from skiptune.samplers.pndm import FON, FPNDM, SPNDM
from skiptune.samplers.registry import SAMPLERS, known_settings, make_sampler
from skiptune.samplers.sample import bind, sample
from skiptune.samplers.schedules import VE, VP, DiscreteVP, Linear, NoiseSchedule
from skiptune.samplers.sde import SDE
from skiptune.samplers.state import Denoise, NoiseAt, Sampler, SamplerState
from skiptune.samplers.unipc import UniPC

__all__ = [
    "DDIM", "DDPM", "FON", "FPNDM", "SAMPLERS", "SDE", "SPNDM", "VE", "VP", "Churn", "Consistency",
    "Denoise", "DiscreteSchedule", "DiscreteVP", "Euler", "Grid", "Heun", "Levels", "Linear", "NoiseAt",
    "NoiseSchedule", "Sampler", "SamplerState", "Timesteps", "UniPC", "bind", "ddpm_schedule",
    "iddpm_grid", "initial_noise", "invert", "karras_grid", "known_settings", "log_snr_grid",
    "make_sampler", "quad_times", "sample", "step_noise", "uniform_times", "vp_grid",
]  # fmt: skip
