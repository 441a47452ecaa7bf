"""Runners for the recorded samplers of discrete-time models: DDIM and DDPM, PNDM.

Trajectories run in EDM's variables and float64; the recorded ones are variance preserving and float32, so
states are divided by sqrt(1 + sigma^2) for the comparison.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from scipy.integrate import solve_ivp
from torch import Tensor

from experiments.golden.compare import Comparison, compare_outputs
from experiments.golden.ddim import build_ddim
from experiments.golden.networks import Unsupported
from experiments.golden.samplers import Recorder
from skiptune.denoisers.ddim import ddim_state
from skiptune.denoisers.discrete import DiscreteDenoiser
from skiptune.errors import SkiptuneError
from skiptune.samplers import (
    DDIM,
    DDPM,
    FON,
    FPNDM,
    SPNDM,
    Denoise,
    DiscreteSchedule,
    Sampler,
    SamplerState,
    Timesteps,
    bind,
    quad_times,
    uniform_times,
)
from skiptune.samplers.pndm import PseudoNumerical, Transferring

SEQUENCES = {"uniform": uniform_times, "quad": quad_times}
# The probability-flow run of luping-liu/PNDM: last time, tolerance of the adaptive solver.
FLOW_END, FLOW_TOLERANCE = 1e-3, 1e-5


@dataclass(frozen=True)
class FirstOrder(Transferring):
    """DDIM as luping-liu/PNDM has it: with that program's indexing of the schedule."""

    fewest: ClassVar[int] = 1

    def _advance(self, denoise: Denoise, state: SamplerState) -> tuple[Tensor, Tensor]:
        time, to = self.times[state.step], self.times[state.step + 1]
        eps = self.eps(denoise, state.x, time)
        return self.transfer(state.x, time, to, eps), eps


METHODS: dict[str, type[PseudoNumerical]] = {
    "DDIM": FirstOrder, "S-PNDM": SPNDM, "F-PNDM": FPNDM, "FON": FON,
}  # fmt: skip


@torch.no_grad()
def check_ddim_sampler(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """ermongroup/ddim: sequences of times, generalized (DDIM) and ancestral (DDPM) steps."""
    io = load_file(case_dir / "io.safetensors")
    denoiser = _ddim_denoiser(case_dir, entry, (1 - io["betas"]).cumprod(0))
    total = denoiser.num_timesteps
    produced = {}
    for name in entry["io"]:
        if name.startswith("sequences/"):
            produced[name] = torch.tensor(_sequence(name, total)[1])
    for run, settings in entry["runs"].items():
        timesteps, seq = _sequence(run, total)
        sampler = _ddim_sampler(settings, timesteps, DiscreteSchedule.of(denoiser)).fitted(denoiser)
        # The official program visits a repeated time again, which moves nothing but draws noise and records.
        order = list(reversed(seq))
        visited = list(dict.fromkeys(order))
        leaving = [k for k, (time, to) in enumerate(pairwise([*order, -1])) if time != to]
        noise = io[settings["noise"]][leaving] if settings["noise"] else None
        recorder = Recorder(bind(denoiser))
        xs = torch.cat([io["x_T"][None], trajectory(sampler, recorder, io["x_T"], noise)])
        x0 = torch.stack(recorder.outputs)
        produced[f"{run}/seq"] = torch.tensor(seq)
        produced[f"{run}/xs"] = xs[[sum(left <= k for left in leaving) for k in range(len(order))]]
        x0 = x0.clamp(-1, 1) if isinstance(sampler, DDPM) else x0
        produced[f"{run}/x0"] = x0[[visited.index(time) for time in order]]
    yield from compare_outputs(entry["case"], entry, produced, io)


@torch.no_grad()
def check_pndm(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """luping-liu/PNDM: its methods with the times that the network is told, transfer and flow ODE."""
    io = load_file(case_dir / "io.safetensors")
    betas = torch.linspace(1e-4, 0.02, entry["io"]["betas"]["shape"][0], dtype=torch.float64).float()
    alphas = (1 - betas).cumprod(0)
    denoiser = _ddim_denoiser(case_dir, entry, alphas)
    schedule = DiscreteSchedule.of(denoiser)
    reader = FirstOrder.along(Timesteps(1), schedule)
    pairs = zip(io["x_T"], io["transfer/eps"], io["transfer/t"], io["transfer/t_next"], strict=True)
    moved = [_transfer(reader, x, eps, float(time), float(to)) for x, eps, time, to in pairs]
    produced = {"betas": betas, "alphas_cump": alphas, "transfer/out": torch.stack(moved)}
    for run, settings in entry["runs"].items():
        recorder = Recorder(bind(denoiser))
        if settings["method"] == "PF":
            flow = Flow(reader, betas)
            produced[f"{run}/final"] = flow.solve(recorder, io["x_T"])
            for name in entry["io"]:
                if name.startswith(f"{run}/drift_"):
                    time = _stated_time(entry["io"][name]["description"])
                    produced[name] = flow.drift(bind(denoiser), io["x_T"], time)
        else:
            timesteps = Timesteps(settings["sample_speed"])
            sampler = METHODS[settings["method"]].along(timesteps, schedule)
            produced[f"{run}/xs"] = trajectory(sampler, recorder, io["x_T"])
            times = torch.tensor(sampler.times)
            produced[f"{run}/seq"] = times[:-1].flip(0)
            produced[f"{run}/steps"] = torch.stack([times[:-1], times[1:]], dim=1).to(torch.float64)
            produced[f"{run}/model_t"] = denoiser.time(torch.stack(recorder.sigmas).float())
            # Not for the flow ODE, whose adaptive solver may need another call for a rounding error.
            exact = len(recorder.sigmas) == settings["n_network_calls"]
            yield Comparison(entry["case"], f"{run}/n_network_calls", 0.0 if exact else math.inf, exact)
    yield from compare_outputs(entry["case"], entry, produced, io)


@dataclass(frozen=True)
class Flow:
    """The probability-flow ODE of the variance-preserving sample over continuous times in [0, 1]."""

    reader: PseudoNumerical
    betas: Tensor

    def drift(self, denoise: Denoise, x: Tensor, time: float) -> Tensor:
        """dx/dt = beta (eps / std - x) / 2; the network is told T - 1 times the time."""
        total, low, high = len(self.betas), float(self.betas[0]), float(self.betas[-1])
        beta = (low + time * (high - low)) * total
        variance = -math.expm1(-total * (0.5 * time**2 * (high - low) + time * low))
        eps = self.reader.predict(denoise, x.to(torch.float64), time * (total - 1))
        return 0.5 * beta * (eps / math.sqrt(variance) - x)

    def solve(self, denoise: Denoise, x: Tensor) -> Tensor:
        """From time 1 to FLOW_END by an adaptive Runge-Kutta method over the whole batch."""

        def slope(time: float, flat: Any) -> Any:
            return self.drift(denoise, torch.from_numpy(flat).reshape(x.shape).float(), time).numpy().ravel()

        start = x.double().numpy().ravel()
        ends, tolerance = (1.0, FLOW_END), FLOW_TOLERANCE
        solution = solve_ivp(slope, ends, start, rtol=tolerance, atol=tolerance, method="RK45")
        return torch.from_numpy(solution.y[:, -1]).reshape(x.shape)


def trajectory(sampler: Sampler, denoise: Denoise, x_T: Tensor, noise: Tensor | None = None) -> Tensor:
    """Variance-preserving states after every step, [steps, N, C, H, W]."""
    state, xs = sampler.start(x_T), []
    for _ in range(sampler.num_steps):
        state = sampler.step(denoise, state, None if noise is None else noise.__getitem__)
        xs.append(sampler.finish(state))
    return torch.stack(xs)


def _transfer(reader: Transferring, x_vp: Tensor, eps: Tensor, time: float, to: float) -> Tensor:
    before, after = math.hypot(1, reader.level(time)), math.hypot(1, reader.level(to))
    return reader.transfer(x_vp.double() * before, time, to, eps.double()) / after


def _sequence(name: str, total: int) -> tuple[Timesteps, tuple[int, ...]]:
    """The rule at the end of a name ("eta0_quad10"), and the times of the official program, rising."""
    match = re.search(rf"({'|'.join(SEQUENCES)})(\d+)$", name)
    if match is None:
        raise Unsupported(f"run {name} does not say its sequence of times ({', '.join(SEQUENCES)})")
    spacing, steps = match[1], int(match[2])
    return Timesteps(steps, spacing), SEQUENCES[spacing](total, steps)


def _stated_time(description: str) -> float:
    match = re.search(r"\bt=([\d.]+)", description)
    if match is None:
        raise Unsupported(f"no time t=... in {description!r}")
    return float(match[1])


def _ddim_sampler(
    settings: Mapping[str, Any], timesteps: Timesteps, schedule: DiscreteSchedule
) -> DDIM | DDPM:
    levels = timesteps.levels(schedule)
    if settings["function"] == "generalized_steps":
        return DDIM(levels, settings["arguments"].get("eta", 0), timesteps=timesteps)
    if settings["function"] == "ddpm_steps":
        return DDPM(levels, timesteps=timesteps)
    raise Unsupported(f"unknown sampling function {settings['function']}")


def lending_case(case_dir: Path, entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Entry and weights of the case named by `weights_from`, which lies beside this one."""
    source = entry["weights_from"]
    cases = json.loads((case_dir.parent / "manifest.json").read_text())["cases"]
    found = next((case for case in cases if case["case"] == source), None)
    if found is None:
        raise SkiptuneError(f"case {entry['case']} needs case {source}, which the manifest does not list")
    return found, load_file(case_dir.parent / source / "weights.safetensors")


def _ddim_denoiser(case_dir: Path, entry: Mapping[str, Any], alphas: Tensor) -> DiscreteDenoiser:
    lender, state = lending_case(case_dir, entry)
    network = build_ddim(lender["constructor"])
    network.load_state_dict(ddim_state(state), strict=True)
    return DiscreteDenoiser(network, network.image_shape, alphas).eval()
