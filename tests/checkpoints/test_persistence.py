"""NVIDIA's snapshots: class, constructor arguments and parameters, without the source."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from hostile import (
    MARKER,
    dict_of,
    legacy_storage,
    list_of,
    module_state,
    name,
    nested,
    number,
    record,
    snapshot,
    tensor,
    text,
    tuple_of,
    whole,
)
from torch import nn
from watching import watched

from experiments.benchmarks.official_layout import Entry, Persistent, write_edm, write_edm2, write_snapshot
from experiments.golden.pickles import check_pickles, described
from skiptune.checkpoints.reading.persistence import ModuleRecord, network_record
from skiptune.checkpoints.reading.read import read_bytes, read_checkpoint
from skiptune.errors import SkiptuneError

REPOSITORY = Path(__file__).parents[2]
SHARED = REPOSITORY.parent / "shared/golden"
KWARGS = {
    "img_resolution": 8,
    "channel_mult": [1, 2],
    "name": "a",
    "rate": 0.1,
    "none": None,
    "nested": {"a": [1]},
}


def load(content):
    return read_bytes(memoryview(bytearray(content)))


@pytest.mark.parametrize("case", ["edm_pickle", "edm_pickle_malicious"])
def test_recorded_case(case):
    if not (SHARED / "manifest.json").exists():
        pytest.skip("no shared/golden beside the repository")
    entry = next(e for e in json.loads((SHARED / "manifest.json").read_text())["cases"] if e["case"] == case)
    results = list(check_pickles(SHARED / case, entry))
    assert [result.tensor for result in results if not result.passed] == []
    assert len(results) > len(entry["pickle_files"])
    assert {"D"} <= {result.tensor for result in results} or case != "edm_pickle"


class Tiny(nn.Module):
    """Parameters, buffers that are kept and not kept, a list of modules as containers in `enc`."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("freqs", torch.arange(3.0))
        self.register_buffer("cache", torch.zeros(9), persistent=False)
        self.enc = nn.ModuleDict({"8x8_conv": nn.Conv2d(3, 4, 3, bias=False), "8x8_norm": nn.GroupNorm(2, 4)})
        self.count = nn.Parameter(torch.arange(4), requires_grad=False)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return Tiny()


@pytest.mark.parametrize("write", [write_edm, write_edm2])
def test_written_snapshot(tmp_path, tiny, write):
    path = tmp_path / "network.pkl"
    write(path, "EDMPrecond", KWARGS, tiny, {"sigma_max": float("inf"), "shape": (1, 2)})
    with watched() as events:
        record = network_record(read_checkpoint(path))
    assert events == []
    state, expected = record.state_dict(), tiny.state_dict()
    assert (record.class_name, record.type, record.version) == ("EDMPrecond", "class", 6)
    assert record.kwargs == KWARGS
    assert record.attributes == {"training": False, "sigma_max": float("inf")}
    assert list(state) == list(expected)
    half = torch.float16 if write is write_edm2 else torch.float32
    for key, value in expected.items():
        value = value.to(half) if value.is_floating_point() else value
        assert torch.equal(state[key], value) and state[key].dtype == value.dtype
    assert not any(value.requires_grad for value in state.values())
    container = record.state["_modules"]["enc"]
    assert type(container) is ModuleRecord and container.class_name == "ModuleDict"


def test_layout_is_that_of_the_recorded_files(tmp_path, tiny):
    path = tmp_path / "network.pkl"
    write_edm(path, "EDMPrecond", KWARGS, tiny)
    names, protocol = described(path)
    assert protocol == 4
    assert names == {
        "collections.OrderedDict",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.nn.modules.container.ModuleDict",
        "torch.storage._load_from_bytes",
        "torch_utils.persistence._reconstruct_persistent_obj",
    }


def test_parts_beside_the_network(tmp_path, tiny):
    path = tmp_path / "network.pkl"
    loss = Persistent("EDMLoss", {}, {"P_mean": -1.2})
    write_edm(path, "EDMPrecond", KWARGS, tiny, beside={"loss_fn": loss, "dataset_kwargs": {"path": "x.zip"}})
    checkpoint = read_checkpoint(path)
    assert list(checkpoint) == ["ema", "loss_fn", "dataset_kwargs"]
    assert checkpoint["loss_fn"].attributes == {"P_mean": -1.2}
    assert network_record(checkpoint) is network_record(checkpoint["ema"]) is checkpoint["ema"]


def test_meta_network_is_filled_while_writing(tmp_path, tiny):
    path = tmp_path / "network.pkl"
    write_edm(path, "EDMPrecond", KWARGS, Tiny().to("meta"))
    state = network_record(read_checkpoint(path)).state_dict()
    tiny.load_state_dict(state, strict=True)
    weight = state["enc.8x8_conv.weight"]
    assert weight.isfinite().all() and 0.7 < weight.std() < 1.3


def test_parts_of_large_storages_are_written_alone(tmp_path):
    path = tmp_path / "part.pkl"
    write_snapshot(path, {"a": Entry("a", torch.zeros(10**6)[:3], torch.float32, parameter=False)})
    assert path.stat().st_size < 2000 and read_checkpoint(path)["a"].tolist() == [0, 0, 0]


def test_source_is_neither_run_nor_kept():
    content = snapshot(record(module_state(_init_kwargs=dict_of(a=number(1)))))
    with watched() as events:
        loaded = load(content)["ema"]
    assert events == [] and loaded.kwargs == {"a": 1}
    assert MARKER not in str(vars(loaded))


@pytest.mark.parametrize(
    ("checkpoint", "reason"),
    [
        ({}, "no network under 'ema', but nothing"),
        ({"state_dict": {}, "b\n": 1}, r"but 'state_dict', 'b\\n'"),
        ({"ema": {"weight": 1}}, "no network under 'ema', but 'ema'"),
        ([1], "a list is no snapshot"),
    ],
)
def test_no_snapshot(checkpoint, reason):
    with pytest.raises(SkiptuneError, match=reason):
        network_record(checkpoint)


ZERO = tensor(nested(legacy_storage()))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (dict_of(a=number(1)), "no _parameters: it is no module"),
        (dict_of(_parameters=dict_of(w=text("x"))), "'w' among the _parameters of the network is a str"),
        (
            dict_of(_parameters=pickle.EMPTY_DICT + number(3) + ZERO + pickle.SETITEM),
            "'3' among the _parameters",
        ),
        (
            dict_of(_parameters=pickle.EMPTY_DICT + text("a.b") + ZERO + pickle.SETITEM),
            "'a.b' among the _parameters",
        ),
        (
            dict_of(_parameters=pickle.EMPTY_DICT, _buffers=pickle.EMPTY_DICT, _modules=dict_of(m=ZERO)),
            "'m' among the _modules of the network is a Tensor",
        ),
    ],
)
def test_no_module(state, reason):
    with pytest.raises(SkiptuneError, match=reason):
        load(snapshot(record(state)))["ema"].state_dict()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (module_state(), "does not list its arguments"),
        (
            dict_of(_init_args=tuple_of(number(1)), _init_kwargs=pickle.EMPTY_DICT),
            "does not list its arguments",
        ),
        (dict_of(_init_kwargs=dict_of(w=list_of(ZERO))), "argument 'w' of EDMPrecond is a Tensor"),
        (dict_of(_init_kwargs=dict_of(w=name("collections.OrderedDict"))), "is a Global"),
    ],
)
def test_no_arguments(state, reason):
    with pytest.raises(SkiptuneError, match=reason):
        _ = load(whole(record(state))).kwargs
