"""Parity with the official networks, on the cases kept here and, where present, on all of shared/golden."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from experiments.golden.networks import (
    Unsupported,
    build_network,
    check_network,
    network_outputs,
    produce,
)
from experiments.golden.verify import read_manifest, runner_for, verify_case
from skiptune.denoisers.normalisation import GroupNorm

REPOSITORY = Path(__file__).parents[2]
KEPT, SHARED = REPOSITORY / "tests/data/golden", REPOSITORY.parent / "shared/golden"


def networks(root, without=()):
    """The network cases of a folder that this version has a runner for; [None] if there is no such folder."""
    if not (root / "manifest.json").exists():
        return [None]
    entries = read_manifest(root)
    found = []
    for case, entry in entries.items():
        if "io" not in entry or "runs" in entry or entry in without:  # a pickle to be refused has no tensors
            continue
        try:
            runner_for(entry, entries)
        except Unsupported:
            continue
        found.append(case)
    return found


def is_edm(case):
    """Built by `build_network`; the tests of the other families load their kept case strictly."""
    entries = read_manifest(KEPT)
    return runner_for(entries[case], entries) is check_network


def check(root, case):
    entries = read_manifest(root)
    report = verify_case(root, case, entries)
    assert (report.status, report.reason) == ("pass", "")
    assert report.outputs == sum(io["role"] == "output" for io in entries[case]["io"].values()) > 0


@pytest.mark.parametrize("case", networks(KEPT))
def test_kept_case(case):
    check(KEPT, case)


@pytest.mark.parametrize("case", [case for case in networks(KEPT) if is_edm(case)])
def test_kept_case_in_the_layout_of_sampling(golden, case):
    """Channels innermost, where normalisation on a CPU is computed in another way."""
    entry, denoiser, io = golden(case)
    layouts = set()
    for layer in denoiser.to(memory_format=torch.channels_last).modules():
        if isinstance(layer, GroupNorm):
            layer.register_forward_pre_hook(
                lambda _, given: layouts.add(given[0].is_contiguous(memory_format=torch.channels_last))
            )
    with torch.no_grad():
        found = list(produce(entry, io, network_outputs(denoiser, entry, io)))
    assert found and all(one.passed for one in found), found
    assert layouts == {True}


@pytest.mark.parametrize("case", networks(SHARED, without=list(read_manifest(KEPT).values())))
def test_shared_case(case):
    if case is None:
        pytest.skip("no shared/golden beside the repository")
    check(SHARED, case)


@pytest.mark.parametrize("case", [case for case in networks(KEPT) if is_edm(case)])
def test_state_dict_has_the_published_names_and_shapes(case):
    entries = {entry["case"]: entry for entry in json.loads((KEPT / "manifest.json").read_text())["cases"]}
    own = {
        name: list(value.shape)
        for name, value in build_network(entries[case]["constructor"]).state_dict().items()
    }
    with safe_open(KEPT / case / "weights.safetensors", "pt") as file:
        assert own == {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
