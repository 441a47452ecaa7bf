"""Runners for the recorded sampler cases: settings come from the manifest entry, every output is compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.golden.compare import Comparison, compare_outputs
from experiments.golden.cosine import LAST_TIME, CosineVP
from experiments.golden.networks import Unsupported
from skiptune import denoisers
from skiptune.errors import SkiptuneError
from skiptune.samplers import (
    VE,
    VP,
    Churn,
    Denoise,
    DiscreteVP,
    Euler,
    Grid,
    Heun,
    Levels,
    Linear,
    NoiseSchedule,
    SamplerState,
    UniPC,
    bind,
    iddpm_grid,
    karras_grid,
    log_snr_grid,
    vp_grid,
)


def check_edm_sampler(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """EDM's two samplers (deterministic, stochastic, and the ablation one) with a network."""
    io, denoiser = load_file(case_dir / "io.safetensors"), _weighted_denoiser(case_dir, entry)
    produced = {}
    for run, settings in entry["runs"].items():
        sampler = _edm_sampler(settings["function"], settings["arguments"], denoiser)
        noise = io.get(f"{run}/noise")
        recorder = Recorder(bind(denoiser, io.get("class_labels")))
        states = _trajectory(sampler, recorder, sampler.start(io["latents"]), noise)
        produced[f"{run}/final"] = sampler.finish(states[-1])
        produced[f"{run}/net_x"] = torch.stack(recorder.inputs).float()
        produced[f"{run}/net_sigma"] = torch.stack(recorder.sigmas)
        produced[f"{run}/net_D"] = torch.stack(recorder.outputs)
    yield from compare_outputs(entry["case"], entry, produced, io)


def check_unipc_edm(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """UniPC with sigma(t) = t on a closed-form mixture; float32 runs differ in their rounded start only."""
    io = load_file(case_dir / "io.safetensors")
    produced = {}
    for run, settings in entry["runs"].items():
        grid = _time_grid(settings, settings["sigma_min"], settings["sigma_max"])
        sampler = _unipc(grid, settings)
        recorder = Recorder(_mixture(io["mu"], io["std"], io["w"]))
        start = io["x_T"].to(getattr(torch, settings["dtype"])).double()
        states = _trajectory(sampler, recorder, SamplerState(start))
        produced[f"{run}/sigmas"] = grid
        produced[f"{run}/xs"] = _corrected(states)
        produced[f"{run}/model_sigma"] = torch.stack(recorder.sigmas)
    yield from compare_outputs(entry["case"], entry, produced, io)


def check_unipc_edm_net(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """UniPC with sigma(t) = t and a network."""
    io, denoiser = load_file(case_dir / "io.safetensors"), _weighted_denoiser(case_dir, entry)
    produced = {}
    for run, settings in entry["runs"].items():
        grid = _time_grid({"skip_type": "karras", **settings}, settings["sigma_min"], settings["sigma_max"])
        sampler = _unipc(grid, settings)
        recorder = Recorder(bind(denoiser, io.get("class_labels")))
        states = _trajectory(sampler, recorder, sampler.start(io["latents"]))
        produced[f"{run}/sigmas"] = grid
        produced[f"{run}/xs"] = _corrected(states)
        produced[f"{run}/final"] = sampler.finish(states[-1])
        produced[f"{run}/D"] = torch.stack(recorder.outputs)
    yield from compare_outputs(entry["case"], entry, produced, io)


def check_unipc_vp(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """UniPC on VP schedules: run on the levels sigma(t) in EDM coordinates, compared times alpha(t)."""
    io = load_file(case_dir / "io.safetensors")
    produced = {}
    for run, settings in entry["runs"].items():
        recorded, schedule = settings["schedule"], _vp_schedule(settings["schedule"], io)
        times = _vp_times(settings, schedule)
        scales = schedule.scale(times)
        sampler = _unipc(schedule.sigma(times), settings)
        recorder = Recorder(_mixture(io["mu"], io["std"], io["w"]))
        start = io["x_T"].to(getattr(torch, settings["dtype"])).double() / scales[0]
        xs = _corrected(_trajectory(sampler, recorder, SamplerState(start)))
        at_end = xs[len(times) :]  # denoise-to-zero: an image, without a scale
        shape = (-1, *[1] * (xs.dim() - 1))
        produced[f"{run}/xs"] = torch.cat([xs[: len(times)] * scales.reshape(shape), at_end])
        produced[f"{run}/timesteps"] = times
        produced[f"{run}/lambda"] = -schedule.sigma(times).log()
        called = schedule.time(torch.stack(recorder.sigmas))
        discrete = recorded["type"] == "discrete"
        produced[f"{run}/model_t"] = (called - 1 / recorded["N"]) * 1000 if discrete else called
    yield from compare_outputs(entry["case"], entry, produced, io)


class Recorder:
    """A denoise function that keeps what goes in and out, in call order."""

    def __init__(self, denoise: Denoise) -> None:
        self.denoise = denoise
        self.inputs: list[Tensor] = []
        self.sigmas: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        x0 = self.denoise(x, sigma)
        self.inputs.append(x)
        self.sigmas.append(sigma)
        self.outputs.append(x0)
        return x0


@torch.no_grad()
def _trajectory(
    sampler: Euler | UniPC, denoise: Denoise, state: SamplerState, noise: Tensor | None = None
) -> list[SamplerState]:
    states = [state]
    for _ in range(sampler.num_steps):
        states.append(sampler.step(denoise, states[-1], None if noise is None else noise.__getitem__))
    return states


def _corrected(states: list[SamplerState]) -> Tensor:
    """UniPC's samples after correction: each is in the history of the next state, the last is predicted."""
    return torch.stack([state.history[0] for state in states[1:]] + [states[-1].x])


def _mixture(mu: Tensor, std: Tensor, weight: Tensor) -> Denoise:
    """The exact denoiser of sum_k w_k N(mu_k, s_k^2 I), for x = x0 + sigma n."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        variance = std**2 + sigma**2
        distance = x[:, None] - mu
        square = distance.flatten(2).square().sum(2)
        logits = weight.log() - square / (2 * variance) - mu[0].numel() / 2 * variance.log()
        share = logits.softmax(1)[:, :, None, None, None]
        return (share * (mu + (std**2 / variance)[:, None, None, None] * distance)).sum(1)

    return denoise


def _unipc(levels: Tensor, settings: Mapping[str, Any]) -> UniPC:
    values = levels.tolist() + ([0.0] if settings.get("denoise_to_zero", False) else [])
    prediction = {"data_prediction": "data", "noise_prediction": "noise"}[settings["algorithm_type"]]
    return UniPC(
        Levels(tuple(values)),
        order=settings["order"],
        variant=settings["variant"],
        lower_order_final=settings.get("lower_order_final", True),
        prediction=prediction,
    )


def _time_grid(settings: Mapping[str, Any], low: float, high: float) -> Tensor:
    """steps + 1 values between two times, or between two noise levels."""
    count, kind = settings["steps"] + 1, settings["skip_type"]
    if kind == "logSNR":
        return log_snr_grid(count, low, high)
    rho = settings["rho"] if kind == "karras" else {"time_uniform": 1.0, "time_quadratic": 2.0}[kind]
    return karras_grid(count, low, high, rho)


def _vp_schedule(recorded: Mapping[str, Any], io: Mapping[str, Tensor]) -> NoiseSchedule:
    if recorded["type"] == "discrete":
        return DiscreteVP(betas=tuple(io[recorded["betas"]].tolist()))
    if recorded["type"] == "linear":
        return VP(beta_d=recorded["beta_1"] - recorded["beta_0"], beta_min=recorded["beta_0"])
    if recorded["type"] == "cosine":
        return CosineVP()
    raise Unsupported(f"noise schedule {recorded['type']!r}")


def _vp_times(settings: Mapping[str, Any], schedule: NoiseSchedule) -> Tensor:
    last = LAST_TIME if isinstance(schedule, CosineVP) else 1.0
    ends = torch.tensor([settings["t_end"], settings.get("t_start", last)], dtype=torch.float64)
    if settings["skip_type"] == "logSNR":
        low, high = schedule.sigma(ends).tolist()
        return schedule.time(_time_grid(settings, low, high))
    return _time_grid(settings, *ends.tolist())


def _edm_sampler(function: str, arguments: Mapping[str, Any], denoiser: denoisers.Denoiser) -> Euler:
    """The sampler behind the arguments of the official function; an unknown argument is refused."""
    left = dict(arguments)
    churn = Churn(**{key: left.pop(key) for key in ("S_churn", "S_min", "S_max", "S_noise") if key in left})
    count, rho = left.pop("num_steps", 18), left.pop("rho", 7)
    if function == "edm_sampler":
        grid = Grid(count, "karras", left.pop("sigma_min", 0.002), left.pop("sigma_max", 80), rho, zero=True)
        sampler: Euler = Heun(grid, Linear(), churn)
    else:
        kind, solver = left.pop("discretization", "edm"), left.pop("solver", "heun")
        schedule, scaled = left.pop("schedule", "linear"), left.pop("scaling", "none") == "vp"
        alpha, epsilon = left.pop("alpha", 1), left.pop("epsilon_s", 1e-3)
        iddpm = {"c1": left.pop("C_1", 0.001), "c2": left.pop("C_2", 0.008), "total": left.pop("M", 1000)}
        low, high = _ablation_range(kind, epsilon)
        low = max(left.pop("sigma_min", None) or low, denoiser.sigma_min)
        high = min(left.pop("sigma_max", None) or high, denoiser.sigma_max)
        levels = {
            "edm": lambda: karras_grid(count, low, high, rho),
            "ve": lambda: log_snr_grid(count, low, high),
            "vp": lambda: vp_grid(count, low, high, epsilon),
            "iddpm": lambda: iddpm_grid(count, low, high, **iddpm),
        }[kind]()
        noise: NoiseSchedule = {
            "linear": Linear(scaled),
            "ve": VE(scaled),
            "vp": VP.through(low, high, epsilon, scaled),
        }[schedule]
        path = Levels((*levels.tolist(), 0.0))
        sampler = Euler(path, noise, churn) if solver == "euler" else Heun(path, noise, churn, alpha)
    if left:
        raise SkiptuneError(f"unknown argument of {function}: {', '.join(sorted(left))}")
    return sampler.fitted(denoiser)


def _ablation_range(discretization: str, epsilon: float) -> tuple[float, float]:
    """Default sigma_min, sigma_max of each discretisation (EDM, Table 1 and notes of the case)."""
    if discretization == "vp":
        low, high = VP().sigma(torch.tensor([epsilon, 1.0], dtype=torch.float64)).tolist()
        return low, high
    return {"ve": (0.02, 100.0), "iddpm": (0.002, 81.0), "edm": (0.002, 80.0)}[discretization]


def _weighted_denoiser(case_dir: Path, entry: Mapping[str, Any]) -> denoisers.Denoiser:
    """The network of the case named by `weights_from`, which lies beside this case in the same manifest."""
    source = entry["weights_from"]
    cases = json.loads((case_dir.parent / "manifest.json").read_text())["cases"]
    found = next((case for case in cases if case["case"] == source), None)
    if found is None:
        raise SkiptuneError(f"case {entry['case']} needs case {source}, which the manifest does not list")
    constructor = found["constructor"]
    network: denoisers.Denoiser = getattr(denoisers, constructor["class"])(**constructor["kwargs"])
    network.load_state_dict(load_file(case_dir.parent / source / "weights.safetensors"), strict=True)
    return network.eval()
