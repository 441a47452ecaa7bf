"""Runner for the recorded networks of baofff/U-ViT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.golden.compare import Comparison
from experiments.golden.networks import Producers, Unsupported, compare_facts, counts, input_index, produce
from skiptune.denoisers.uvit import UViT
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, find_skip_sites, record_skip_norms


@torch.no_grad()
def check_uvit(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """The noise predictor: outputs, per-image times, norms of skip tokens, scaled skips, sizes, skips."""
    network = build_uvit(entry["constructor"])
    facts: dict[str, Any] = counts(network)
    network.load_state_dict(load_file(case_dir / "weights.safetensors"), strict=True)
    io = load_file(case_dir / "io.safetensors")
    network.eval()
    # The order of the concatenation is told in words; the scaled outputs depend on it.
    listed = [{k: v for k, v in skip.items() if k != "order"} for skip in entry.get("skip_connections", [])]
    if listed:  # a network can be built without skips
        sources = skip_sources(network, io["x"][0], io["t"][0], io.get("y"))
        facts["skip_connections"] = describe(network, sources)
    yield from compare_facts({**entry, "skip_connections": listed}, facts)
    yield from produce(entry, io, uvit_outputs(network, entry, io))


def build_uvit(constructor: Mapping[str, Any]) -> UViT:
    """The network of an entry. Raises Unsupported for arguments that this version does not know."""
    try:
        return UViT(**constructor["kwargs"])
    except (SkiptuneError, TypeError, ValueError) as error:
        raise Unsupported(f"network argument: {error}") from error


def uvit_outputs(network: UViT, entry: Mapping[str, Any], io: Mapping[str, Tensor]) -> Producers:
    """How each output that may be recorded is computed, by its name in the manifest."""
    labels = io.get("y")

    def at_times() -> Tensor:
        return torch.stack([network(x, t, labels) for x, t in zip(io["x"], io["t"], strict=True)])

    def tuned() -> Tensor:
        with SkipTuning(tuple(io["rho"].tolist())).attached_to(network):
            return at_times()

    def norms(part: str) -> Tensor:
        i = input_index(entry, f"skip_{part}_norms", "skip_u_norms")
        with record_skip_norms(network) as record:
            network(io["x"][i], io["t"][i], labels)
        return getattr(record, part)[0]

    return {
        "out": at_times,
        "out_mixed": lambda: network(io["x"][input_index(entry, "out_mixed")], io["t_mixed"], labels),
        "skip_u_norms": lambda: norms("u"),
        "skip_d_norms": lambda: norms("d"),
        "out_rho_full": tuned,
    }


def describe(network: UViT, sources: Sequence[str]) -> list[dict[str, Any]]:
    """The skip sites in the words of the manifest."""
    return [
        {
            "index": site.index,
            "decoder_block": site.name.removesuffix(".skip_linear"),
            "source": source,
            "width": site.d_channels,
        }
        for site, source in zip(find_skip_sites(network), sources, strict=True)
    ]


def skip_sources(network: UViT, x: Tensor, t: Tensor, labels: Tensor | None) -> list[str]:
    """The encoder block whose output each decoder block takes, as seen in a call."""
    made: list[tuple[str, Tensor]] = []
    taken: list[Tensor] = []

    def keep(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            made.append((name, output))

        return hook

    handles = [
        block.register_forward_hook(keep(f"in_blocks.{i}")) for i, block in enumerate(network.in_blocks)
    ]
    handles += [
        block.register_forward_pre_hook(lambda _, args: taken.append(args[1])) for block in network.out_blocks
    ]
    network(x, t, labels)
    for handle in handles:
        handle.remove()
    return [next(name for name, output in made if output is skip) for skip in taken]
