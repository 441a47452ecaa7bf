"""What official pickles are made of loads as plain values."""

import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hostile import call, dict_of, list_of, name, number, text, whole

from skiptune.checkpoints.reading.pickle_machine import Global, Refused
from skiptune.checkpoints.reading.read import read_bytes, read_checkpoint
from skiptune.errors import SkiptuneError

PLAIN = {
    "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**62, -(2**62), 0.1, float("inf"), 1e-300],
    "text": ["", "a", "ä€😀", "x" * 300, "y" * 70_000, "\ud800"],
    "flags": (None, True, False),
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "keys": {1: "a", None: "b", False: 1, "c": {}, 0.5: []},
    "ordered": OrderedDict([("b", 1), ("a", 2)]),
    "shared": [["same"]] * 3,
}


def load(content):
    return read_bytes(memoryview(bytearray(content)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values(protocol):
    assert load(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_sets_and_bytes(protocol):
    value = load(pickle.dumps([{"a", "b"}, set(), b"abc"], protocol))
    assert value[:2] == [{"a", "b"}, set()] and bytes(value[2]) == b"abc"


def test_frozen_set():
    assert load(pickle.dumps(frozenset("ab"), 4)) == frozenset("ab")


def test_shared_parts_stay_shared():
    value = load(pickle.dumps(PLAIN))["shared"]
    assert value[0] is value[1] is value[2]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "i8", "u1", "?", "c8"])
def test_numpy_numbers_and_arrays(protocol, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    number, c_order, fortran, empty = load(
        pickle.dumps([array[1, 2], array, np.asfortranarray(array), array[:0]], protocol)
    )
    assert type(number) in (bool, int, float, complex) and number == array[1, 2]
    for loaded, expected in ((c_order, array), (fortran, array), (empty, array[:0])):
        assert loaded.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize("module", ["numpy.core", "numpy._core"])
def test_numpy_names_of_both_ages(module):
    kind = call("numpy.dtype", text("f8"), pickle.NEWFALSE, pickle.NEWTRUE)
    value = pickle.SHORT_BINBYTES + bytes([8]) + struct.pack("<d", 0.5**0.5)
    assert load(whole(call(f"{module}.multiarray.scalar", kind, value))) == 0.5**0.5


def test_easy_dict_is_a_dictionary():
    made = name("dnnlib.util.EasyDict") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    items = pickle.MARK + text("a") + number(1) + pickle.SETITEMS
    value = load(whole(made + items + pickle.EMPTY_DICT + pickle.BUILD))  # Python before 3.11 builds with {}
    assert value == {"a": 1} and type(value) is dict


def test_torch_types():
    sizes, dtype = load(pickle.dumps([torch.Size([2, 3]), torch.float16], 2))
    assert sizes == (2, 3) and dtype is torch.float16


def test_metadata_of_a_state_dict_is_left_out():
    state = torch.nn.Linear(2, 2).state_dict()
    loaded = load(pickle.dumps(state))
    assert list(loaded) == ["weight", "bias"] and not hasattr(loaded, "_metadata")
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.parametrize("protocol", [2, 4])
def test_weights_may_be_written_to(protocol, recwarn):
    torch.set_warn_always(True)
    try:
        weight = read_bytes(memoryview(bytearray(pickle.dumps(torch.arange(6.0), protocol))))
    finally:
        torch.set_warn_always(False)
    assert torch.equal(weight.add_(1), torch.arange(1.0, 7.0)) and not recwarn.list


def test_names_beside_the_weights_of_lightning_are_mere_names():
    callback = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
    value = load(whole(dict_of(callbacks=pickle.EMPTY_DICT + name(callback) + number(1) + pickle.SETITEM)))
    ((key, state),) = value["callbacks"].items()
    assert isinstance(key, Global) and key.name == callback and key.call is key.make is None and state == 1


def test_a_large_memo_index_costs_nothing():
    store = pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 1)
    assert load(whole(text("a") + store + pickle.LONG_BINGET + store[1:] + pickle.TUPLE2)) == ("a", "a")


def test_byte_strings_are_views_of_the_file():
    file = bytearray(pickle.dumps([b"x" * 1000]))
    (view,) = read_bytes(memoryview(file))
    at = bytes(file).index(b"x" * 1000)
    file[at] = ord("y")
    assert bytes(view[:2]) == b"yx"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "no checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no checkpoint"),
        (pickle.dumps(PLAIN)[:-1], "ends too early"),
        (whole(list_of(number(1)))[:2], "ends too early"),
    ],
)
def test_other_files(tmp_path, content, reason):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    with pytest.raises(SkiptuneError, match=reason):
        read_checkpoint(path)


def test_no_file(tmp_path):
    with pytest.raises(SkiptuneError, match="cannot read .*missing.pkl"):
        read_checkpoint(tmp_path / "missing.pkl")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SkiptuneError, match="no regular file"):
            read_checkpoint(path)


@pytest.mark.parametrize("made", ["dnnlib.util.EasyDict", "torch.nn.modules.container.ModuleDict"])
def test_nothing_that_a_file_says_reaches_a_constructor(made):
    """A dict made of pairs would hash their keys, nested without end, outside of all counting."""
    deep = pickle.EMPTY_TUPLE + pickle.TUPLE1 * 100_000
    doubled = pickle.EMPTY_TUPLE + (pickle.DUP + pickle.TUPLE2) * 60
    for key in (deep, doubled, number(5)):
        pairs = pickle.MARK + key + pickle.NONE + pickle.TUPLE2 + pickle.LIST
        with pytest.raises(Refused, match="damaged pickle"):
            load(whole(name(made) + pickle.MARK + pairs + pickle.TUPLE + pickle.NEWOBJ))
