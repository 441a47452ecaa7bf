"""Runner for recorded pickle files: official snapshots that must load, and malicious ones that must not."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.golden.compare import Comparison
from experiments.golden.edm2 import build_edm2, edm2_outputs
from experiments.golden.networks import (
    Producers,
    Unsupported,
    build_network,
    compare_facts,
    computed_buffers,
    counts,
    network_outputs,
    produce,
)
from skiptune.checkpoints.reading.persistence import PersistentRecord, network_record
from skiptune.checkpoints.reading.pickle_machine import Machine
from skiptune.checkpoints.reading.pickle_opcodes import run
from skiptune.checkpoints.reading.read import map_file, read_checkpoint
from skiptune.checkpoints.reading.safe_pickle import Context, Handler
from skiptune.checkpoints.reading.torch_file import read_torch
from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError

EDM2 = "Precond"  # the name of the class in NVlabs/edm2


def check_pickles(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """Every listed file, read in an empty folder that must stay empty.

    A file whose entry is a text must be refused; one whose entry lists facts must have them, hold the
    parameters of ``weights.safetensors`` and give the recorded outputs.
    """
    files: Mapping[str, Any] = entry["pickle_files"]
    if not files:
        raise Unsupported("lists no pickle files")
    folder = case_dir.resolve()
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        outputs: dict[str, Comparison] = {}
        for name, listed in files.items():
            if isinstance(listed, str):
                yield fact(entry, f"{name} refused", is_refused(folder / name))
                continue
            for result in check_snapshot(folder / name, listed, folder, entry):
                if result.tensor in entry["io"]:
                    outputs[result.tensor] = worse(outputs.get(result.tensor), result)
                else:
                    yield replace(result, tensor=f"{name} {result.tensor}")
        yield from outputs.values()
        yield fact(entry, "nothing executed", not any(Path(scratch).iterdir()))


def is_refused(path: Path) -> bool:
    """Whether reading the file ends in one line."""
    try:
        read_checkpoint(path)
    except SkiptuneError as error:
        return len(str(error).splitlines()) == 1
    return False


@torch.no_grad()
def check_snapshot(
    path: Path, listed: Mapping[str, Any], folder: Path, entry: Mapping[str, Any]
) -> Iterator[Comparison]:
    """One snapshot: its structure, class, arguments, parameters and outputs."""
    checkpoint = read_checkpoint(path)
    record = network_record(checkpoint)
    names, protocol = described(path)
    yield fact(entry, "keys", list(checkpoint) == listed["keys"])
    yield fact(entry, "globals", sorted(names) == sorted(listed["globals"]))
    yield fact(entry, "meta fields", meta_fields(record) == listed["top_meta_fields"])
    yield fact(entry, "state fields", sorted(record.state) == sorted(listed["top_state_fields"]))
    if "pickle_protocol" in entry:
        yield fact(entry, "protocol", protocol == entry["pickle_protocol"])
    description = {"class": record.class_name, "kwargs": record.kwargs}
    yield fact(entry, "constructor", description == entry["constructor"])

    state = record.state_dict()
    yield fact(entry, "parameters", same_values(state, load_file(folder / "weights.safetensors")))
    io = load_file(folder / "io.safetensors")
    denoiser, producers = built(description, entry, io)
    facts: dict[str, Any] = counts(denoiser)
    if record.class_name != EDM2:  # whose buffers are random numbers
        facts |= computed_buffers(denoiser, state)
    yield from compare_facts(entry, facts)
    denoiser.load_state_dict(state, strict=True)
    yield from produce(entry, io, producers)


def built(
    description: Mapping[str, Any], entry: Mapping[str, Any], io: Mapping[str, Tensor]
) -> tuple[Denoiser, Producers]:
    """The network that the file describes, in evaluation mode, and how its outputs are computed."""
    if description["class"] == EDM2:
        edm2 = build_edm2(description).eval()
        return edm2, edm2_outputs(edm2, entry, io)
    denoiser = build_network(description).eval()
    return denoiser, network_outputs(denoiser, entry, io)


def described(path: Path) -> tuple[set[str], int]:
    """The names that the outer pickle refers to, and its protocol."""
    data = map_file(path)
    context = Context(len(data), read_torch)
    machine = Machine(data, Handler(context), context.budget)
    run(machine)
    return machine.globals, machine.protocol


def meta_fields(record: PersistentRecord) -> dict[str, Any]:
    """As the manifest describes them; a record is only made of a text and a dictionary for these two."""
    kinds = {"module_src": "str", "state": "dict"}
    return {"type": record.type, "version": record.version, "class_name": record.class_name, **kinds}


def same_values(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Equal names and, in float32, bits: the reference is stored in float16 without loss."""
    return ours.keys() == theirs.keys() and all(
        torch.equal(value.to(torch.float32), theirs[name].to(torch.float32)) for name, value in ours.items()
    )


def worse(one: Comparison | None, other: Comparison) -> Comparison:
    """The greater difference; a listed output counts once for all files."""
    return other if one is None or other.largest >= one.largest else one


def fact(entry: Mapping[str, Any], name: str, equal: bool) -> Comparison:
    """A comparison that is right or wrong."""
    return Comparison(entry["case"], name, 0.0 if equal else math.inf, equal)
