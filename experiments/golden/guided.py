"""Runners for the recorded networks of openai/consistency_models and CompVis/latent-diffusion."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from experiments.golden.compare import Comparison
from experiments.golden.networks import (
    Producers,
    Unsupported,
    compare_facts,
    counts,
    describe,
    input_index,
    produce,
)
from skiptune.denoisers.consistency import ConsistencyDenoiser
from skiptune.denoisers.guided import LatentUNet, UNet
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, find_skip_sites, record_skip_norms
from skiptune.samplers import Consistency, Grid, Heun, Levels, karras_grid, sample

PLACES = {"full": "input", "residual": "residual", "norm": "norm0_input"}
Call = Callable[[int], Tensor]
"""Index of a recorded input -> the network's output for it."""


@torch.no_grad()
def check_consistency(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """openai/consistency_models: the network, both preconditionings, one-step, multistep and Heun samples."""
    distilled, teacher = (build_consistency(entry["constructor"], flag) for flag in (True, False))
    state = load_file(case_dir / "weights.safetensors")
    for denoiser in (distilled, teacher):
        denoiser.model.load_state_dict(state, strict=True)
        denoiser.eval()
    network, io = distilled.model, load_file(case_dir / "io.safetensors")
    yield from compare_facts(entry, network_facts(network))
    labels = F.one_hot(io["y"], network.num_classes).float() if "y" in io else None

    def call(i: int) -> Tensor:
        return network(io["x"][i], io["t"][i].expand(len(io["x"][i])), labels)

    producers = network_outputs("F", network, call, entry, io)
    for name, denoiser in (("consistency", distilled), ("edm", teacher)):
        producers |= denoiser_outputs(name, denoiser, labels, io)
    yield from produce(entry, io, producers | sample_outputs(distilled, teacher, labels, entry, io))


@torch.no_grad()
def check_latent(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """CompVis/latent-diffusion: the network with its condition tokens."""
    try:
        network = LatentUNet(**entry["constructor"]["kwargs"]).eval()
    except (SkiptuneError, TypeError, ValueError) as error:
        raise Unsupported(f"network argument: {error}") from error
    network.load_state_dict(load_file(case_dir / "weights.safetensors"), strict=True)
    yield from compare_facts(entry, network_facts(network))
    io = load_file(case_dir / "io.safetensors")

    def call(i: int, tokens: str = "context") -> Tensor:
        return network(io["x"][i], io["t"][i].expand(len(io["x"][i])), None, io.get(tokens))

    producers = network_outputs("eps", network, call, entry, io)
    producers["eps_context3"] = lambda: call(input_index(entry, "eps_context3"), "context3")
    yield from produce(entry, io, producers)


def build_consistency(constructor: Mapping[str, Any], distillation: bool) -> ConsistencyDenoiser:
    """The denoiser of an entry. Raises Unsupported for arguments that this version does not know."""
    given = {**constructor.get("denoiser", {}), "distillation": distillation}
    given.pop("loss_norm", None)  # of training
    try:
        return ConsistencyDenoiser(**constructor["kwargs"], **given)
    except (SkiptuneError, TypeError, ValueError) as error:
        raise Unsupported(f"network argument: {error}") from error


def network_facts(network: UNet) -> dict[str, Any]:
    """Sizes and skip connections as the manifest names them."""
    skips = []
    for site in find_skip_sites(network):
        fact = {**describe(site), "decoder_block": site.name}
        fact["first_norm_groups"] = getattr(site.norm, "num_groups", None)
        skips.append(fact)
    return {**counts(network), "skip_connections": skips}


def network_outputs(
    prefix: str, network: UNet, call: Call, entry: Mapping[str, Any], io: Mapping[str, Tensor]
) -> Producers:
    """Raw outputs, skip norms and rho variants, by their names in the manifest."""

    def everywhere() -> Tensor:
        return torch.stack([call(i) for i in range(len(io["x"]))])

    def tuned(place: str) -> Tensor:
        with SkipTuning(tuple(io["rho"].tolist()), place).attached_to(network):
            return everywhere()

    def norms(part: str) -> Tensor:
        with record_skip_norms(network) as record:
            call(input_index(entry, f"skip_{part}_norms", "skip_u_norms"))
        return getattr(record, part)[0]

    producers: Producers = {
        prefix: everywhere,
        "skip_u_norms": lambda: norms("u"),
        "skip_d_norms": lambda: norms("d"),
    }
    for variant, place in PLACES.items():
        producers[f"{prefix}_rho_{variant}"] = lambda place=place: tuned(place)  # type: ignore[misc]
    return producers


def denoiser_outputs(
    name: str, denoiser: ConsistencyDenoiser, labels: Tensor | None, io: Mapping[str, Tensor]
) -> Producers:
    """Estimates and scalings at the recorded noise levels."""
    return {
        f"denoised_{name}": lambda: torch.stack(
            [denoiser(x, sigma, labels) for x, sigma in zip(io["x_noisy"], io["sigmas"], strict=True)]
        ),
        f"scalings_{name}": lambda: torch.stack(denoiser.scalings(io["sigmas"])),
    }


def sample_outputs(
    distilled: ConsistencyDenoiser,
    teacher: ConsistencyDenoiser,
    labels: Tensor | None,
    entry: Mapping[str, Any],
    io: Mapping[str, Tensor],
) -> Producers:
    """Samples as the descriptions say: numbers of steps, and the indices ``ts`` of the multistep sampler."""
    low, high, noise = distilled.sigma_min, distilled.sigma_max, io["sample_noise"]

    def said(output: str, pattern: str) -> str:
        match = re.search(pattern, entry["io"][output]["description"])
        if match is None:
            raise SkiptuneError(f"case {entry['case']} does not say {pattern} of {output}")
        return match[1]

    def consistency(levels: tuple[float, ...], clip: bool) -> Tensor:
        sampler = Consistency(Levels(levels), clip)
        return sample(sampler, distilled, noise[0], labels, lambda step: noise[1 + step])

    def multistep() -> Tensor:
        levels = karras_grid(int(said("multistep", r"steps=(\d+)")), low, high, 7.0)
        visited = [int(i) for i in said("multistep", r"ts=\[([\d, ]+)\]").split(",")]
        return consistency(tuple(float(levels[i]) for i in visited), clip=True)

    def heun() -> Tensor:
        grid = Grid(int(said("heun5", r"steps=(\d+)")), "karras", low, high, 7.0, zero=True)
        return sample(Heun(grid), teacher, noise[0], labels).clamp(-1, 1)

    return {
        "onestep_clip1": lambda: consistency((high, low), clip=True),
        "onestep_clip0": lambda: consistency((high, low), clip=False),
        "multistep": multistep,
        "karras_sigmas_40": lambda: F.pad(karras_grid(40, low, high, 7.0), (0, 1)).float(),
        "heun5": heun,
    }
