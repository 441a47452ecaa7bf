"""Files that try to fill the memory or the day of whoever opens them, or that no program writes."""

import pickle
import struct
import zipfile

import pytest
from hostile import (
    LEGACY_HEAD,
    call,
    data,
    dict_of,
    legacy,
    legacy_storage,
    list_of,
    memo,
    name,
    nested,
    number,
    recall,
    record,
    snapshot,
    storage_id,
    tar_file,
    tensor,
    text,
    torch_tar,
    torch_zip,
    tuple_of,
    whole,
    zip_file,
    zip_tensor,
)
from watching import refusal

HUGE = 2**40


def laughs(make, depth=60):
    """A list of two, which are one list of two, which are ..."""
    return text("ha") + b"".join(memo(0) + recall(0) + make for _ in range(depth))


def again_and_again(times, dotted, argument):
    """A call with the same argument from the memo, over and over."""
    once = name(dotted) + recall(0) + pickle.REDUCE + pickle.POP
    return argument + pickle.TUPLE1 + memo(0) + once * times


def made_of(dotted, argument):
    """An object whose class is given an argument."""
    return whole(name(dotted) + tuple_of(argument) + pickle.NEWOBJ)


def state_of_array(shape, code="f8", content=bytes(8)):
    kind = call("numpy.dtype", text(code), pickle.NEWFALSE, pickle.NEWTRUE)
    made = call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), tuple_of(number(0)), data(b"b"))
    state = tuple_of(number(1), tuple_of(*map(number, shape)), kind, pickle.NEWFALSE, data(content))
    return made + state + pickle.BUILD


def reduced(function):
    return function + pickle.EMPTY_TUPLE + pickle.REDUCE


def zip_with(old, new):
    """A zip file of two members in which bytes of the directory were exchanged."""
    content = torch_zip(zip_tensor(), members=[("archive/data/0", bytes(4)), ("archive/data/1", bytes(4))])
    start = content.index(b"PK\x01\x02")
    assert old in content[start:]
    return content[:start] + content[start:].replace(old, new)


# file -> a word of the reason
REFUSED = {
    "setstate twice": (
        whole(
            name("torch.nn.modules.container.ModuleDict")
            + pickle.EMPTY_TUPLE
            + pickle.NEWOBJ
            + (dict_of(__class__=pickle.NONE) + pickle.BUILD) * 2
        ),
        "state",
    ),
    "state of a record": (snapshot(record() + dict_of(class_name=pickle.NONE) + pickle.BUILD), "state"),
    "state of a function": (
        whole(name("collections.OrderedDict") + dict_of(a=pickle.NONE) + pickle.BUILD),
        "state",
    ),
    "state of a tensor": (
        torch_zip(zip_tensor() + dict_of(__class__=pickle.NONE) + pickle.BUILD),
        "state of a Tensor",
    ),
    "state of a dtype": (
        whole(name("torch.float32") + dict_of(a=pickle.NONE) + pickle.BUILD),
        "state of a dtype",
    ),
    "call of a text": (whole(reduced(text("os.system"))), "calls a str"),
    "call of a result": (whole(reduced(call("collections.OrderedDict"))), "calls a OrderedDict"),
    "call of a type": (whole(call("torch.FloatStorage", number(HUGE))), "torch.FloatStorage"),
    "new of a function": (
        whole(name("torch.storage._load_from_bytes") + tuple_of(data(b"")) + pickle.NEWOBJ),
        "call",
    ),
    "call of a mere name": (
        whole(call("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")),
        "ModelCheckpoint",
    ),
    "encode": (whole(call("_codecs.encode", text("eval"), text("rot13"))), "_codecs.encode"),
    "decode": (whole(call("_codecs.encode", text("€"), text("latin1"))), "damaged"),
    "extension registry 1": (whole(pickle.EXT1 + b"\1"), "opcode"),
    "extension registry 2": (whole(pickle.EXT2 + b"\1\0"), "opcode"),
    "extension registry 4": (whole(pickle.EXT4 + bytes(4)), "opcode"),
    "persistent id": (whole(text("os.system") + pickle.BINPERSID), "outside"),
    "persistent id in text": (b"]Pos.system\n.", "opcode"),
    "module in a legacy file": (
        legacy(tuple_of(text("module"), text("os.system")) + pickle.BINPERSID),
        "no storage",
    ),
    "out-of-band buffer": (whole(pickle.NEXT_BUFFER, 5), "opcode"),
    "memo that was never filled": (whole(recall(7)), "damaged"),
    "memo below a mark": (whole(pickle.MARK + pickle.MEMOIZE), "ends"),
    "empty stack": (whole(pickle.REDUCE), "ends"),
    "protocol": (whole(pickle.NONE, 77), "protocol"),
    "huge bytes": (whole(pickle.BINBYTES8 + struct.pack("<Q", 2**62)), "truncated"),
    "huge bytearray": (whole(pickle.BYTEARRAY8 + struct.pack("<Q", 2**62), 5), "truncated"),
    "huge text": (whole(pickle.BINUNICODE8 + struct.pack("<Q", 2**62)), "truncated"),
    "huge integer": (whole(pickle.LONG4 + struct.pack("<I", 2**31)), "integer"),
    "negative integer": (whole(pickle.LONG4 + struct.pack("<i", -5)), "integer"),
    "long integer in text": (b"I" + b"9" * 100_000 + b"\n.", "no checkpoint"),
    "huge storage": (torch_zip(zip_tensor(numel=HUGE, size=(HUGE,))), "storage"),
    "huge legacy storage": (
        whole(nested(legacy_storage(HUGE, content=struct.pack("<q", HUGE)))),
        "truncated",
    ),
    "huge count of bytes": (whole(nested(legacy_storage(content=struct.pack("<q", HUGE)))), "damaged"),
    "negative storage": (torch_zip(zip_tensor(numel=-1)), "storage"),
    "tensor beyond its storage": (torch_zip(zip_tensor(size=(2,))), "tensor"),
    "offset beyond the storage": (torch_zip(zip_tensor(offset=1)), "tensor"),
    "stride beyond the storage": (torch_zip(zip_tensor(numel=2, size=(2,), stride=(9,))), "tensor"),
    "expanded tensor": (torch_zip(zip_tensor(size=(HUGE,), stride=(0,))), "tensor"),
    "negative stride": (torch_zip(zip_tensor(stride=(-1,))), "natural"),
    "negative size": (torch_zip(zip_tensor(size=(-1,))), "natural"),
    "overflowing size": (torch_zip(zip_tensor(size=(2**61, 2**61, 8), stride=(0, 0, 0))), "tensor"),
    "sizes without end": (torch_zip(zip_tensor(size=(1,) * 1000, stride=(1,) * 1000)), "size"),
    "strides of another length": (torch_zip(zip_tensor(stride=(1, 1))), "length"),
    "tensor without storage": (whole(tensor(text("x"))), "without a storage"),
    "storage that is missing": (torch_zip(zip_tensor(), members=()), "missing"),
    "storage of other length": (torch_zip(zip_tensor(), members=[("archive/data/0", bytes(5))]), "5 bytes"),
    "parameter of text": (whole(call("torch._utils._rebuild_parameter", text("x"))), "parameter"),
    "huge array": (whole(state_of_array((HUGE,))), "array"),
    "array of objects": (whole(state_of_array((1,), "O")), "number"),
    "array of a type bomb": (whole(call("numpy.dtype", laughs(pickle.TUPLE2))), "number"),
    "array of text": (whole(state_of_array((1,), "U1000000000")), "number"),
    "array twice": (whole(again_and_again(10, "numpy._core.numeric._frombuffer", text("x"))), "damaged"),
    "number of wrong length": (
        whole(call("numpy.core.multiarray.scalar", call("numpy.dtype", text("f8")), data(b"1"))),
        "number",
    ),
    "deep lists": (whole(pickle.EMPTY_LIST * 10**5 + pickle.APPEND * (10**5 - 1)), "deep"),
    "deep tuples": (whole(pickle.NONE + pickle.TUPLE1 * 10**5), "deep"),
    "list in itself": (whole(pickle.EMPTY_LIST + memo(0) + recall(0) + pickle.APPEND), "itself"),
    "record in itself": (
        snapshot(pickle.EMPTY_DICT + memo(0) + text("a") + record(recall(0)) + pickle.SETITEM),
        "itself",
    ),
    "laughs in tuples": (whole(laughs(pickle.TUPLE2)), "repeats"),
    "laughs in lists": (whole(laughs(pickle.MARK + recall(0) + pickle.LIST + pickle.TUPLE2)), "repeats"),
    "laughs as a key": (
        whole(pickle.EMPTY_DICT + laughs(pickle.TUPLE2) + pickle.NONE + pickle.SETITEM),
        "key",
    ),
    "laughs in a set": (
        whole(pickle.EMPTY_SET + pickle.MARK + laughs(pickle.TUPLE2) + pickle.ADDITEMS),
        "set",
    ),
    "colliding integers": (
        whole(
            pickle.EMPTY_SET
            + pickle.MARK
            + b"".join(number(i * (2**61 - 1)) for i in range(30_000))
            + pickle.ADDITEMS
        ),
        "int as the key",
    ),
    "unhashable key": (whole(pickle.EMPTY_DICT + pickle.EMPTY_LIST + pickle.NONE + pickle.SETITEM), "key"),
    "one list many times": (
        whole(again_and_again(20_000, "builtins.set", list_of(*[pickle.NONE] * 20_000))),
        "elements or steps",
    ),
    "one text many times": (
        whole(
            text("x" * 10**6)
            + text("latin1")
            + pickle.TUPLE2
            + memo(0)
            + (name("_codecs.encode") + recall(0) + pickle.REDUCE) * 2000
        ),
        "bytes again",
    ),
    "one storage many times": (
        whole(again_and_again(200_000, "torch.storage._load_from_bytes", data(legacy_storage()))),
        "elements or steps",
    ),
    "one archive many times": (
        whole(
            again_and_again(
                100_000,
                "torch.storage._load_from_bytes",
                data(
                    torch_zip(
                        storage_id() + pickle.BINPERSID,
                        [(f"archive/data/{i}", bytes(4)) for i in range(2000)],
                    )
                ),
            )
        ),
        "again and again",
    ),
    "dictionary made of pairs": (
        made_of("dnnlib.util.EasyDict", list_of(tuple_of(*[number(1)] * 2))),
        "damaged",
    ),
    "dictionary made of a deep key": (
        made_of("dnnlib.util.EasyDict", list_of(tuple_of(pickle.NONE + pickle.TUPLE1 * 10**5, pickle.NONE))),
        "damaged",
    ),
    "dictionary made of an exponential key": (
        made_of("dnnlib.util.EasyDict", list_of(tuple_of(laughs(pickle.TUPLE2), pickle.NONE))),
        "damaged",
    ),
    "module made of a number": (made_of("torch.nn.modules.container.Sequential", number(5)), "damaged"),
    "storages without end": (
        whole(nested(whole(nested(whole(nested(legacy_storage())))))),
        "nested in a way",
    ),
    "bytes in place of a storage": (whole(nested(whole(pickle.NONE))), "something else"),
    "record of version 7": (snapshot(record(version=number(7))), "version"),
    "record of a module": (snapshot(record(type=text("module"))), "version"),
    "record with a class that is no name": (snapshot(record(class_name=text("a\nb"))), "name"),
    "record without state": (snapshot(record(state=text("x"))), "'state'"),
    "record of a list": (
        whole(call("torch_utils.persistence._reconstruct_persistent_obj", pickle.EMPTY_LIST)),
        "dictionary",
    ),
    "zip slip": (torch_zip(zip_tensor(), members=[("archive/../../PWNED", bytes(4))]), "outside"),
    "zip with an absolute path": (torch_zip(zip_tensor(), members=[("/tmp/PWNED", bytes(4))]), "outside"),
    "zip bomb": (
        torch_zip(
            zip_tensor(numel=10**7, size=(10**7,)),
            members=[("archive/data/0", bytes(4 * 10**7))],
            compression=zipfile.ZIP_DEFLATED,
        ),
        "compressed",
    ),
    "zip without an object": (zip_file([("archive/version", b"3")]), "data.pkl"),
    "zip with two objects": (
        torch_zip(zip_tensor(), members=[("other/data.pkl", b"."), ("archive/data/0", bytes(4))]),
        "data.pkl",
    ),
    "zip with a name twice": (zip_with(b"archive/data/0", b"archive/data/1"), "two archive members"),
    "zip with a moved member": (
        zip_with(struct.pack("<I", 0) + b"archive/data.pkl", struct.pack("<I", 5) + b"archive/data.pkl"),
        "zip",
    ),
    "zip with big-endian numbers": (
        torch_zip(zip_tensor(), members=[("archive/byteorder", b"big"), ("archive/data/0", bytes(4))]),
        "big-endian",
    ),
    "zip without directory": (torch_zip(zip_tensor())[:-30], "truncated"),
    "legacy with another key": (legacy(storage_id() + pickle.BINPERSID, keys=("1",)), "list of storages"),
    "legacy with a key twice": (
        legacy(
            storage_id() + pickle.BINPERSID, keys=("0", "0"), content=(struct.pack("<q", 1) + bytes(4)) * 2
        ),
        "list of storages",
    ),
    "legacy with one key as two": (
        legacy(list_of(storage_id() + pickle.BINPERSID, storage_id(9) + pickle.BINPERSID)),
        "two of different",
    ),
    "legacy of another machine": (LEGACY_HEAD.replace(b"\x88", b"\x89") + whole(pickle.NONE), "byte order"),
    "tar without tensors": (tar_file([("pickle", b"."), ("storages", b".")]), "tensors"),
    "tar with a wrong tensor": (torch_tar(body=text("6") + pickle.BINPERSID), "tar file does not hold"),
    "tar with a huge tensor": (
        torch_tar(
            tensors=whole(number(1), 2)
            + whole(tuple_of(number(5), number(7), pickle.NONE), 2)
            + struct.pack("<ii3q", 1, 0, HUGE, 1, 0)
        ),
        "tensor",
    ),
    "tar with many dimensions": (
        torch_tar(
            tensors=whole(number(1), 2)
            + whole(tuple_of(number(5), number(7), pickle.NONE), 2)
            + struct.pack("<ii", 2**31 - 1, 0)
        ),
        "cannot be loaded",
    ),
    "tar without end": (torch_tar()[:2048], "truncated"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tricks_are_refused(case, tmp_path):
    content, reason = REFUSED[case]
    line = refusal(content, tmp_path)
    assert reason in line and "is refused" not in line
