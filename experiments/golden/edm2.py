"""Runner for the recorded network of NVlabs/edm2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.golden.compare import Comparison
from experiments.golden.networks import Producers, Unsupported, compare_facts, counts, input_index, produce
from skiptune.denoisers.edm2 import EDM2Precond
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, find_skip_sites, record_skip_norms

PLACES = {"full": "input", "residual": "residual"}


@torch.no_grad()
def check_edm2(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """The preconditioned network: denoised images, uncertainty, skip norms, rho variants, sizes, skips."""
    denoiser = build_edm2(entry["constructor"])
    facts: dict[str, Any] = counts(denoiser)
    denoiser.load_state_dict(load_file(case_dir / "weights.safetensors"), strict=True)
    facts["skip_connections"] = [
        {
            "index": site.index,
            "decoder_block": site.name.rpartition(".")[2],
            "u_channels": site.u_channels,
            "d_channels": site.d_channels,
        }
        for site in find_skip_sites(denoiser)
    ]
    yield from compare_facts(entry, facts)
    io = load_file(case_dir / "io.safetensors")
    yield from produce(entry, io, edm2_outputs(denoiser.eval(), entry, io))


def build_edm2(constructor: Mapping[str, Any]) -> EDM2Precond:
    """The denoiser of an entry. Raises Unsupported for arguments that this version does not know."""
    try:
        return EDM2Precond(**constructor["kwargs"])
    except (SkiptuneError, TypeError, ValueError) as error:
        raise Unsupported(f"network argument: {error}") from error


def edm2_outputs(denoiser: EDM2Precond, entry: Mapping[str, Any], io: Mapping[str, Tensor]) -> Producers:
    """How each output that may be recorded is computed, by its name in the manifest."""
    labels = io.get("class_labels")

    def at_levels(condition: Tensor | None) -> Tensor:
        pairs = zip(io["x"], io["sigmas"], strict=True)
        return torch.stack([denoiser(x, sigma, condition) for x, sigma in pairs])

    def tuned(place: str) -> Tensor:
        with SkipTuning(tuple(io["rho"].tolist()), place).attached_to(denoiser):
            return at_levels(labels)

    def norms(part: str) -> Tensor:
        i = input_index(entry, f"skip_{part}_norms", "skip_u_norms")
        with record_skip_norms(denoiser) as record:
            denoiser(io["x"][i], io["sigmas"][i], labels)
        return getattr(record, part)[0]

    producers: Producers = {
        "D": lambda: at_levels(labels),
        "D_no_labels": lambda: at_levels(None),
        "logvar": lambda: torch.stack([denoiser.logvar(sigma) for sigma in io["sigmas"]]),
        "skip_u_norms": lambda: norms("u"),
        "skip_d_norms": lambda: norms("d"),
    }
    for variant, place in PLACES.items():
        producers[f"D_rho_{variant}"] = lambda place=place: tuned(place)  # type: ignore[misc]
    return producers
