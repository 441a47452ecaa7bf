"""Runner for the recorded noise predictors of ermongroup/ddim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.golden.compare import Comparison
from experiments.golden.networks import (
    Producers,
    Unsupported,
    compare_facts,
    computed_buffers,
    counts,
    describe,
    input_index,
    produce,
)
from skiptune.denoisers.ddim import DDIMUNet, ddim_kwargs, ddim_state
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, find_skip_sites
from skiptune.interventions.norms import record_skip_norms

PLACES = {"full": "input", "residual": "residual", "norm1": "norm0_input"}


@torch.no_grad()
def check_ddim_network(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """The U-Net: predicted noise, per-image times, skip norms, rho variants, sizes, skip connections."""
    network = build_ddim(entry["constructor"])
    state = ddim_state(load_file(case_dir / "weights.safetensors"))
    facts: dict[str, Any] = {**computed_buffers(network, state), **counts(network)}
    network.load_state_dict(state, strict=True)
    sites = find_skip_sites(network)
    facts["skip_connections"] = [{**describe(site), "decoder_block": site.name} for site in sites]
    yield from compare_facts(entry, facts)
    io = load_file(case_dir / "io.safetensors")
    yield from produce(entry, io, ddim_outputs(network.eval(), entry, io))


def build_ddim(constructor: Mapping[str, Any]) -> DDIMUNet:
    """The network of an entry. Raises Unsupported for a configuration that this version does not know."""
    try:
        return DDIMUNet(**ddim_kwargs(constructor.get("config", {})))
    except (SkiptuneError, TypeError, ValueError) as error:
        raise Unsupported(str(error)) from error


def ddim_outputs(network: DDIMUNet, entry: Mapping[str, Any], io: Mapping[str, Tensor]) -> Producers:
    """How each output that may be recorded is computed, by its name in the manifest."""
    sites = find_skip_sites(network)

    def at_times() -> Tensor:
        pairs = zip(io["x"], io["t"], strict=True)
        return torch.stack([network(x, t.expand(len(x))) for x, t in pairs])

    def tuned(place: str) -> Tensor:
        with SkipTuning(tuple(io["rho"].tolist()), place).attached_to(network, sites):
            return at_times()

    def norms(part: str) -> Tensor:
        i = input_index(entry, f"skip_{part}_norms", "skip_u_norms")
        with record_skip_norms(network, sites) as record:
            network(io["x"][i], io["t"][i].expand(len(io["x"][i])))
        return getattr(record, part)[0]

    producers: Producers = {
        "eps": at_times,
        "eps_mixed": lambda: network(io["x"][input_index(entry, "eps_mixed")], io["t_mixed"]),
        "skip_u_norms": lambda: norms("u"),
        "skip_d_norms": lambda: norms("d"),
    }
    for variant, place in PLACES.items():
        producers[f"eps_rho_{variant}"] = lambda place=place: tuned(place)  # type: ignore[misc]
    return producers
