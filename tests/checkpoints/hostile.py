"""Builders of pickles and archives that no honest program writes, opcode by opcode."""

import io
import pickle
import struct
import zipfile

MARKER = "PWNED"
ONE_ZERO = struct.pack("<q", 1) + bytes(4)  # the elements of a legacy storage
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
LEGACY_HEAD = MAGIC + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)


def whole(body, protocol=4):
    """A pickle of one value."""
    return pickle.PROTO + bytes([protocol]) + body + pickle.STOP


def text(value):
    content = value.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(content)) + content


def data(content):
    return pickle.BINBYTES + struct.pack("<I", len(content)) + content


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def tuple_of(*parts):
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def list_of(*parts):
    return pickle.EMPTY_LIST + pickle.MARK + b"".join(parts) + pickle.APPENDS


def dict_of(**parts):
    items = b"".join(text(key) + value for key, value in parts.items())
    return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS


def name(dotted):
    """A global, by the last dot; with two colons where the split should be elsewhere."""
    module, _, last = dotted.partition("::") if "::" in dotted else dotted.rpartition(".")
    return text(module) + text(last) + pickle.STACK_GLOBAL


def call(dotted, *arguments):
    return name(dotted) + tuple_of(*arguments) + pickle.REDUCE


def payload():
    """A shell command that leaves a file behind."""
    return call("posix.system", text(f"touch {MARKER}"))


def record(state=None, **fields):
    """A persistence record; its source leaves a file behind, if someone runs it."""
    meta = {
        "type": text("class"),
        "version": number(6),
        "module_src": text(f"open({MARKER!r}, 'w').close()"),
        "class_name": text("EDMPrecond"),
        "state": state if state is not None else module_state(),
    }
    return call("torch_utils.persistence._reconstruct_persistent_obj", dict_of(**{**meta, **fields}))


def module_state(**more):
    empty = pickle.EMPTY_DICT
    return dict_of(_parameters=empty, _buffers=empty, _modules=empty, _init_args=pickle.EMPTY_TUPLE, **more)


def snapshot(network):
    return whole(dict_of(ema=network))


def storage_id(numel=1, kind="torch.FloatStorage", key="0"):
    return tuple_of(text("storage"), name(kind), text(key), text("cpu"), number(numel), pickle.NONE)


def tensor(storage, offset=0, size=(1,), stride=(1,)):
    shape = [tuple_of(*map(number, values)) for values in (size, stride)]
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", storage, number(offset), *shape, pickle.NEWFALSE, hooks)


def legacy(body, keys=("0",), content=ONE_ZERO):
    """A legacy torch file whose object is the body, with one storage."""
    return LEGACY_HEAD + whole(body, 2) + pickle.dumps(list(keys), 2) + content


def legacy_storage(numel=1, kind="torch.FloatStorage", content=ONE_ZERO):
    """What official pickles hold for a storage."""
    return legacy(storage_id(numel, kind) + pickle.BINPERSID, content=content)


def nested(content):
    return call("torch.storage._load_from_bytes", data(content))


def zip_file(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for member, content in members:
            archive.writestr(member, content)
    return buffer.getvalue()


def torch_zip(body, members=(("archive/data/0", bytes(4)),), **options):
    """A torch file of today whose object is the body."""
    head = [("archive/data.pkl", whole(body, 2)), ("archive/version", b"3")]
    return zip_file([*head, *members], **options)


def zip_tensor(**options):
    storage = {key: options.pop(key) for key in ("numel", "kind") if key in options}
    return tensor(storage_id(**storage) + pickle.BINPERSID, **options)


def tar_file(members):
    """A tar file as torch 0.1 wrote it."""
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def torch_tar(body=None, storages=None, tensors=None):
    """One storage of four floats, one tensor over it, and the object ``{"weight": tensor}``."""
    if storages is None:
        head = whole(number(1), 2) + whole(tuple_of(number(7), text("cpu"), name("torch.FloatStorage")), 2)
        storages = head + struct.pack("<q4f", 4, 1, 2, 3, 4) + whole(pickle.EMPTY_LIST, 2)
    if tensors is None:
        head = whole(number(1), 2) + whole(tuple_of(number(5), number(7), name("torch.FloatTensor")), 2)
        tensors = head + struct.pack("<ii5q", 2, 0, 2, 2, 2, 1, 0)
    body = dict_of(weight=text("5") + pickle.BINPERSID) if body is None else body
    machine = pickle.dumps({"little_endian": True}, 2)
    members = {"sys_info": machine, "pickle": whole(body, 2), "storages": storages, "tensors": tensors}
    return tar_file(members.items())


def memo(index):
    """Remember the value on top of the stack."""
    return pickle.BINPUT + bytes([index])


def recall(index):
    return pickle.BINGET + bytes([index])
