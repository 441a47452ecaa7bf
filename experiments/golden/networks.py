"""Runners for the recorded networks of the EDM family: the entry says what is built and what is compared."""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.golden.compare import Comparison, compare_outputs
from skiptune.denoisers import Denoiser, VPPrecond, build_denoiser, iDDPMPrecond
from skiptune.denoisers.layers import UNetBlock
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipSite, SkipTuning, find_skip_sites, record_skip_norms

PLACES = {"full": "input", "residual": "residual", "norm0": "norm0_input"}
RANDOM_BUFFERS = ("map_noise.freqs",)
Producers = dict[str, Callable[[], Tensor]]


class Unsupported(SkiptuneError):
    """An entry needs something that this version does not have."""


@torch.no_grad()
def check_network(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """A preconditioned network: denoised images, inner network, skip norms, rho variants, noise levels."""
    denoiser = build_network(entry["constructor"])
    state = load_file(case_dir / "weights.safetensors")
    facts: dict[str, Any] = {**computed_buffers(denoiser, state), **counts(denoiser)}
    denoiser.load_state_dict(state, strict=True)
    facts["skip_connections"] = [describe(site) for site in find_skip_sites(denoiser)]
    facts |= {"sigma_min": denoiser.sigma_min, "sigma_max": denoiser.sigma_max}
    yield from compare_facts(entry, facts)
    io = load_file(case_dir / "io.safetensors")
    yield from produce(entry, io, network_outputs(denoiser.eval(), entry, io))


@torch.no_grad()
def check_block(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """A single decoder block on a concatenation [u, d], and its rho variants."""
    block = build_block(entry["constructor"])
    state = load_file(case_dir / "weights.safetensors")
    facts = {**computed_buffers(block, state), **counts(block), "num_heads": block.heads}
    block.load_state_dict(state, strict=True)
    yield from compare_facts(entry, {**facts, "norm0_groups": block.norm0.num_groups})
    io = load_file(case_dir / "io.safetensors")
    yield from produce(entry, io, block_outputs(block.eval(), io))


def build_network(constructor: Mapping[str, Any]) -> Denoiser:
    """The denoiser of an entry. Raises Unsupported for arguments that this version does not know."""
    try:
        return build_denoiser(dict(constructor))
    except SkiptuneError as error:
        raise Unsupported(str(error)) from error


def build_block(constructor: Mapping[str, Any]) -> UNetBlock:
    """Our block from the official arguments; those of the initialisation do not matter, as weights follow."""
    given = {key: value for key, value in constructor["kwargs"].items() if not key.startswith("init")}
    attention, heads = given.pop("attention", False), given.pop("num_heads", None)
    per_head = given.pop("channels_per_head", 64)
    if attention:
        given["heads"] = given["out_channels"] // per_head if heads is None else heads
    if "resample_filter" in given:
        given["taps"] = given.pop("resample_filter")
    try:
        return UNetBlock(**given)
    except (TypeError, ValueError) as error:
        raise Unsupported(f"block argument: {error}") from error


def network_outputs(denoiser: Denoiser, entry: Mapping[str, Any], io: Mapping[str, Tensor]) -> Producers:
    """How each output that may be recorded is computed, by its name in the manifest."""
    labels = io.get("class_labels")

    def at_levels(condition: Tensor | None) -> Tensor:
        pairs = zip(io["x"], io["sigmas"], strict=True)
        return torch.stack([denoiser(x, sigma, condition) for x, sigma in pairs])

    def single(sigma: Tensor | None = None, **options: Tensor) -> Tensor:
        x, own, condition = single_input(entry, io)
        return denoiser(x, own if sigma is None else sigma, condition, **options)

    def tuned(place: str) -> Tensor:
        with SkipTuning(tuple(io["rho"].tolist()), place).attached_to(denoiser):
            return at_levels(labels)

    @functools.cache
    def levels() -> dict[str, Tensor]:
        with record_inner(denoiser) as seen:
            output = at_levels(labels)
        _, noise_label, raw = zip(*seen, strict=True)
        return {"D": output, "noise_label": torch.stack(noise_label), "raw": torch.stack(raw)}

    @functools.cache
    def one_level() -> dict[str, Tensor]:
        with record_inner(denoiser) as seen, record_skip_norms(denoiser) as norms:
            single()
        return {"input": seen[0][0], "u": norms.u[0], "d": norms.d[0]}

    producers: Producers = {
        "D": lambda: levels()["D"],
        "D_no_labels": lambda: at_levels(None),
        "D_mixed_sigma": lambda: single(io["mixed_sigma"]),
        "D_augment": lambda: single(augment_labels=io["augment_labels"]),
        "inner_input": lambda: one_level()["input"],
        "inner_noise_label": lambda: levels()["noise_label"],
        "F_raw": lambda: levels()["raw"],
        "skip_u_norms": lambda: one_level()["u"],
        "skip_d_norms": lambda: one_level()["d"],
        "round_sigma": lambda: denoiser.round_sigma(io["query_sigma"]),
    }
    for variant, place in PLACES.items():
        producers[f"D_rho_{variant}"] = lambda place=place: tuned(place)  # type: ignore[misc]
    if isinstance(denoiser, iDDPMPrecond):
        producers["round_sigma_index"] = lambda: denoiser.nearest_level(io["query_sigma"])
    if isinstance(denoiser, VPPrecond):
        producers["sigma_of_t"] = lambda: denoiser.schedule.sigma(io["query_t"])
        producers["sigma_inv"] = lambda: denoiser.schedule.time(io["query_sigma"])
    return producers


def block_outputs(block: UNetBlock, io: Mapping[str, Tensor]) -> Producers:
    """The block's output without scaling and, with one entry per factor of rho, for each place."""
    u, d = io["u"].shape[1], io["d"].shape[1]
    site = SkipSite(0, "block", block, u, d, block.norm0, block.skip)

    def y() -> Tensor:
        return block(torch.cat([io["u"], io["d"]], dim=1), io["emb"])

    def tuned(place: str) -> Tensor:
        outputs = []
        for rho in io["rho"].tolist():
            with SkipTuning((rho,), place).attached_to(block, [site]):
                outputs.append(y())
        return torch.stack(outputs)

    variants = {f"y_rho_{name}": lambda place=place: tuned(place) for name, place in PLACES.items()}
    return {"y": y, **variants}


def produce(entry: Mapping[str, Any], io: Mapping[str, Tensor], producers: Producers) -> Iterator[Comparison]:
    """Compute the outputs that are listed and known; compare_outputs fails the listed ones that are not."""
    listed = [name for name, tensor in entry["io"].items() if tensor["role"] == "output"]
    produced = {name: producers[name]() for name in listed if name in producers}
    yield from compare_outputs(entry["case"], entry, produced, io)


def single_input(entry: Mapping[str, Any], io: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """``x``, ``sigma`` and labels that the outputs for one noise level were recorded with."""
    given = entry.get("skip_input")
    if given is None:
        raise SkiptuneError(
            f"case {entry['case']} does not say which input it was recorded with (skip_input)"
        )
    match = re.fullmatch(r"(\w+)\[(\d+)\]", str(given["x"]))
    if match is None:
        raise SkiptuneError(f"case {entry['case']}: skip_input.x is {given['x']!r}, expected NAME[INDEX]")
    x = io[match[1]][int(match[2])]
    labels = given.get("class_labels")
    return x, torch.tensor(given["sigma"], dtype=torch.float64), None if labels is None else io[labels]


@contextlib.contextmanager
def record_inner(denoiser: Denoiser) -> Iterator[list[tuple[Tensor, Tensor, Tensor]]]:
    """Scaled image, noise label and raw output of every call of the inner network."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        seen.append((args[0], args[1], output))

    handle = denoiser.get_submodule("model").register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def describe(site: SkipSite) -> dict[str, Any]:
    """A skip site in the words of the manifest."""
    assert isinstance(site.norm, nn.GroupNorm)
    groups = site.norm.num_groups
    width = (site.u_channels + site.d_channels) // groups
    return {
        "index": site.index,
        "decoder_block": site.name.rpartition(".")[2],
        "u_channels": site.u_channels,
        "d_channels": site.d_channels,
        "first_norm_groups": groups,
        "a_group_contains_u_and_d": site.u_channels % width != 0,
    }


def counts(network: nn.Module) -> dict[str, int]:
    """Size of the state dict, before anything is loaded into it."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"num_parameters": parameters, "num_state_dict_entries": len(network.state_dict())}


def computed_buffers(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, bool]:
    """Loading would hide a buffer that we compute differently, so they are compared before it."""
    same = all(
        name in state
        and buffer.shape == state[name].shape
        and torch.allclose(buffer, state[name].to(buffer), rtol=1e-4, atol=1e-6)
        for name, buffer in network.named_buffers()
        if not name.endswith(RANDOM_BUFFERS)
    )
    return {"buffers": same}


def compare_facts(entry: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Comparison]:
    """What the entry states of the network besides tensors, as far as it does; buffers always."""
    for name, value in facts.items():
        expected = True if name == "buffers" else entry.get(name)
        if expected is None:
            continue
        if isinstance(value, float) and isinstance(expected, (int, float)):
            equal = math.isclose(value, expected, rel_tol=1e-6)
        else:
            equal = value == expected
        yield Comparison(entry["case"], name, 0.0 if equal else math.inf, equal)


def input_index(entry: Mapping[str, Any], *outputs: str) -> int:
    """Which of the inputs ``x`` an output was recorded with, as the first description that says so has it."""
    for output in outputs:
        match = re.search(r"\bx\[(\d+)\]", entry["io"][output]["description"])
        if match:
            return int(match[1])
    raise SkiptuneError(f"case {entry['case']} does not say which x[i] {outputs[0]} was recorded with")
