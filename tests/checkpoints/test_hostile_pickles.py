"""Files that try to run code when they are opened."""

import pickle
from pathlib import Path

import pytest
from hostile import (
    LEGACY_HEAD,
    MARKER,
    call,
    data,
    dict_of,
    legacy,
    legacy_storage,
    list_of,
    memo,
    module_state,
    name,
    nested,
    number,
    payload,
    recall,
    record,
    snapshot,
    storage_id,
    text,
    torch_tar,
    torch_zip,
    tuple_of,
    whole,
    zip_tensor,
)
from watching import refusal, watched

SHARED = Path(__file__).parents[3] / "shared/golden/edm_pickle_malicious"
COMMAND = text(f"touch {MARKER}")
CODE = text(f"open({MARKER!r}, 'w').close()")
HUGE = 2**40


# file -> the global that the error must name
FORBIDDEN = {
    "system": (whole(payload()), "posix.system"),
    "popen": (whole(call("subprocess.Popen", COMMAND)), "subprocess.Popen"),
    "eval": (whole(call("builtins.eval", CODE)), "builtins.eval"),
    "exec": (whole(call("builtins.exec", CODE)), "builtins.exec"),
    "import": (whole(call("builtins.__import__", text("os"))), "builtins.__import__"),
    "importlib": (whole(call("importlib.import_module", text("os"))), "importlib.import_module"),
    "getattr": (whole(call("builtins.getattr", name("os.path"), text("os"))), "builtins.getattr"),
    "operator": (whole(call("operator.attrgetter", text("system"))), "operator.attrgetter"),
    "partial": (whole(call("functools.partial", name("posix.system"), COMMAND)), "functools.partial"),
    "apply": (whole(call("__builtin__.apply", text("x"))), "__builtin__.apply"),
    "run_code": (whole(call("runpy._run_code", CODE)), "runpy._run_code"),
    "locate": (whole(call("pydoc.locate", text("os.system"))), "pydoc.locate"),
    "reconstructor": (whole(call("copyreg._reconstructor", name("io.FileIO"))), "copyreg._reconstructor"),
    "pickle in pickle": (whole(call("_pickle.loads", data(whole(payload())))), "_pickle.loads"),
    "bytearray": (whole(call("builtins.bytearray", number(HUGE))), "builtins.bytearray"),
    "torch.load": (whole(call("torch.load", text("x.pt"))), "torch.load"),
    "torch.hub": (whole(call("torch.hub.load", text("x"))), "torch.hub.load"),
    "torch helper": (whole(call("torch._utils._import_dotted_name", text("x"))), "_import_dotted_name"),
    "numpy.load": (whole(call("numpy.load", text("x"))), "numpy.load"),
    "numpy exec": (whole(call("numpy.testing._private.utils.runstring", CODE, text("x"))), "runstring"),
    "dotted name": (whole(call("torch._utils::os.system", COMMAND)), "torch._utils.os.system"),
    "dotted builtin": (whole(call("collections::OrderedDict.__class__", COMMAND)), "OrderedDict.__class__"),
    "text opcodes": (b"cos\nsystem\n(V" + f"touch {MARKER}".encode() + b"\ntR.", "os.system"),
    "text dotted": (b"ctorch._utils\nos.system\n(ltR.", "torch._utils.os.system"),
    "instance": (whole(pickle.MARK + COMMAND + b"ios\nsystem\n"), "os.system"),
    "object": (whole(pickle.MARK + name("os.system") + COMMAND + pickle.OBJ), "os.system"),
    "new": (whole(name("subprocess.Popen") + tuple_of(COMMAND) + pickle.NEWOBJ), "subprocess.Popen"),
    "new with keywords": (
        whole(name("subprocess.Popen") + tuple_of() + dict_of(args=COMMAND) + pickle.NEWOBJ_EX),
        "subprocess.Popen",
    ),
    "nested": (whole(list_of(tuple_of(dict_of(a=list_of(payload()))))), "posix.system"),
    "key": (whole(pickle.EMPTY_DICT + payload() + pickle.NONE + pickle.SETITEM), "posix.system"),
    "record's state": (snapshot(record(module_state(x=payload()))), "posix.system"),
    "record's arguments": (snapshot(record(module_state(_init_kwargs=dict_of(x=payload())))), "posix.system"),
    "record's source": (snapshot(record(module_src=payload())), "posix.system"),
    "record's class": (snapshot(record(class_name=name("os.system"))), "os.system"),
    "record within record": (
        snapshot(record(module_state(inner=record(module_state(x=payload()))))),
        "posix.system",
    ),
    "beside the network": (whole(dict_of(ema=record(), loss_fn=payload())), "posix.system"),
    "setstate": (
        whole(call("collections.OrderedDict") + dict_of(__setstate__=name("posix.system")) + pickle.BUILD),
        "posix.system",
    ),
    "class of a class": (whole(name("torch.nn.modules.module.Module")), "torch.nn.modules.module.Module"),
    "overwritten memo": (
        whole(
            name("collections.OrderedDict") + memo(0) + name("nt.system") + memo(0) + pickle.POP + recall(0)
        ),
        "nt.system",
    ),
    "popped": (whole(payload() + pickle.POP + pickle.NONE), "posix.system"),
    "behind a mark": (whole(pickle.MARK + payload() + pickle.POP_MARK + pickle.NONE), "posix.system"),
    "storage bytes": (snapshot(record(module_state(x=nested(whole(payload()))))), "posix.system"),
    "storage bytes, legacy": (whole(nested(legacy(payload()))), "posix.system"),
    "storage bytes, zip": (whole(nested(torch_zip(payload()))), "posix.system"),
    "storage bytes, tar": (whole(nested(torch_tar(body=payload()))), "posix.system"),
    "storage bytes twice": (whole(nested(whole(nested(whole(payload()))))), "posix.system"),
    "storage type": (whole(nested(legacy_storage(kind="os.system"))), "os.system"),
    "storage keys": (LEGACY_HEAD + whole(storage_id() + pickle.BINPERSID) + whole(payload()), "posix.system"),
    "legacy head": (LEGACY_HEAD[:15] + whole(payload()), "posix.system"),
    "legacy file": (legacy(payload()), "posix.system"),
    "zip file": (torch_zip(payload()), "posix.system"),
    "zip file's storage": (torch_zip(zip_tensor(kind="os.FloatStorage")), "os.FloatStorage"),
    "tar file": (torch_tar(body=payload()), "posix.system"),
    "tar file's storages": (torch_tar(storages=whole(payload())), "posix.system"),
    "tar file's tensors": (torch_tar(tensors=whole(payload())), "posix.system"),
    "name with a line": (whole(call("os\nis fine.system")), r"os\nis fine.system"),
    "name with colours": (whole(call("os\x1b[2K.system")), r"os\x1b[2K.system"),
    "long name": (whole(call("o" * 10**6 + ".system")), "ooo"),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_code_is_refused_by_name(case, tmp_path):
    content, forbidden = FORBIDDEN[case]
    line = refusal(content, tmp_path)
    assert "is refused: it refers to" in line and forbidden in line


@pytest.mark.parametrize("path", sorted(SHARED.glob("*.pkl")) or [None], ids=str)
def test_recorded_malicious_file_is_refused(path, tmp_path):
    if path is None:
        pytest.skip("no shared/golden beside the repository")
    assert "posix.system" in refusal(path.read_bytes(), tmp_path)


def test_the_payload_would_run(tmp_path, monkeypatch):
    """The files above are dangerous: Python's own reader falls for them, and the watch sees it."""
    monkeypatch.chdir(tmp_path)
    with watched() as events:
        pickle.loads(whole(payload()))
    assert (tmp_path / MARKER).exists()
    assert {event for event, _ in events} >= {"pickle.find_class", "os.system"}
