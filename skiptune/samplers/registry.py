"""Samplers by name, with flat settings: what a configuration file or a command line can say."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.samplers.consistency import Consistency
from skiptune.samplers.ddim import DDIM, DDPM
from skiptune.samplers.discrete_grids import Timesteps, ddpm_schedule
from skiptune.samplers.grids import Grid
from skiptune.samplers.heun import Churn, Euler, Heun
from skiptune.samplers.pndm import FPNDM, SPNDM
from skiptune.samplers.schedules import VE, VP, Linear, NoiseSchedule
from skiptune.samplers.sde import SDE
from skiptune.samplers.state import Sampler
from skiptune.samplers.unipc import UniPC

SCHEDULES: dict[str, type[NoiseSchedule]] = {"linear": Linear, "ve": VE, "vp": VP}


def euler(
    *,
    steps: int,
    grid: str = "karras",
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    schedule: str = "linear",
    variance_preserving: bool = False,
    S_churn: float = 0.0,
    S_min: float = 0.0,
    S_max: float = math.inf,
    S_noise: float = 1.0,
) -> Euler:
    """Euler on `steps` levels and a final 0: NFE = steps. With S_churn > 0 sampling is stochastic."""
    levels = Grid(steps, grid, sigma_min, sigma_max, rho, zero=True)
    if schedule not in SCHEDULES:
        raise SkiptuneError(f"unknown noise schedule {schedule!r}: choose one of {', '.join(SCHEDULES)}")
    return Euler(levels, SCHEDULES[schedule](variance_preserving), Churn(S_churn, S_min, S_max, S_noise))


def heun(*, alpha: float = 1.0, **settings: Any) -> Heun:
    """Heun with the settings of `euler` and the trial step `alpha`: NFE = 2 steps - 1."""
    first_order = euler(**settings)
    return Heun(first_order.grid, first_order.schedule, first_order.churn, alpha)


def unipc(
    *,
    steps: int,
    grid: str = "karras",
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    order: int = 3,
    variant: str = "bh2",
    corrector: bool = True,
    lower_order_final: bool = True,
    prediction: str = "data",
    denoise_to_zero: bool = False,
) -> UniPC:
    """UniPC on `steps` + 1 levels: NFE = steps, and one more, its own step, with denoise_to_zero."""
    if steps < 1:
        raise SkiptuneError(f"UniPC needs at least 1 step, got {steps}")
    levels = Grid(steps + 1, grid, sigma_min, sigma_max, rho, zero=denoise_to_zero)
    return UniPC(levels, order, variant, corrector, lower_order_final, prediction)


def ddim(
    *, steps: int, spacing: str = "uniform", offset: int = 0, end: str = "zero", eta: float = 0.0
) -> DDIM:
    """DDIM along times of the network's schedule: NFE = steps, or more if "uniform" does not divide it.

    Latent diffusion's program is offset 1 and end "first".
    """
    timesteps = Timesteps(steps, spacing, offset, end)
    return DDIM(timesteps.levels(ddpm_schedule()), eta, timesteps=timesteps)


def ddpm(*, steps: int, spacing: str = "uniform", variance: str = "large", clip: bool = True) -> DDPM:
    """Ancestral sampling along times of the network's schedule, stochastic: NFE as for `ddim`."""
    timesteps = Timesteps(steps, spacing)
    return DDPM(timesteps.levels(ddpm_schedule()), variance, clip, timesteps=timesteps)


def s_pndm(*, steps: int, spacing: str = "uniform", indexing: str = "official") -> SPNDM:
    """S-PNDM along times of the network's schedule: NFE = steps + 1."""
    return SPNDM.along(Timesteps(steps, spacing), indexing=indexing)


def f_pndm(*, steps: int, spacing: str = "uniform", indexing: str = "official") -> FPNDM:
    """F-PNDM along times of the network's schedule: NFE = steps + 9."""
    return FPNDM.along(Timesteps(steps, spacing), indexing=indexing)


def consistency(
    *, steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0, clip: bool = True
) -> Consistency:
    """Consistency sampling along a Karras grid of `steps` + 1 levels: NFE = steps."""
    if steps < 1:
        raise SkiptuneError(f"consistency sampling needs at least 1 step, got {steps}")
    return Consistency(Grid(steps + 1, "karras", sigma_min, sigma_max, rho, zero=False), clip)


def sde(
    *,
    steps: int,
    grid: str = "karras",
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    tau: float = 1.0,
    order: int = 1,
) -> SDE:
    """The reverse SDE of strength `tau` (0: the ODE) on `steps` levels and a final 0: NFE = steps."""
    return SDE(Grid(steps, grid, sigma_min, sigma_max, rho, zero=True), tau, order)


REQUIRED = inspect.Parameter.empty
SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "euler": euler, "heun": heun, "unipc": unipc,
    "consistency": consistency, "ddim": ddim, "ddpm": ddpm, "s_pndm": s_pndm, "f_pndm": f_pndm, "sde": sde,
}  # fmt: skip


def make_sampler(name: str, **settings: Any) -> Sampler:
    """The sampler `name` (a key of SAMPLERS) with the keyword arguments of its builder.

    Raises SkiptuneError for an unknown name or setting (the message lists the known ones), a missing `steps`,
    or a value that the sampler refuses.
    """
    known = known_settings(name)
    if unknown := sorted(set(settings) - set(known)):
        raise SkiptuneError(f"{name} has no setting {', '.join(unknown)}: it knows {', '.join(known)}")
    if missing := [key for key, default in known.items() if default is REQUIRED and key not in settings]:
        raise SkiptuneError(f"{name} needs the setting {', '.join(missing)}")
    return SAMPLERS[name](**settings)


def known_settings(name: str) -> dict[str, Any]:
    """Setting -> default of the sampler `name` (or REQUIRED). Raises SkiptuneError for an unknown name."""
    if name not in SAMPLERS:
        raise SkiptuneError(f"unknown sampler {name!r}: choose one of {', '.join(sorted(SAMPLERS))}")
    parameters = inspect.signature(SAMPLERS[name]).parameters.values()
    own = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    return {**known_settings("euler"), **own} if name == "heun" else own
