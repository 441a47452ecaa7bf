"""Torch files (.pt, .pth, .ckpt) of every age, and plain pickles, read from mapped bytes by the safe machine.

* zip (torch 1.6 and later): one pickle, every storage a stored member of its own.
* legacy: five pickles in a row (magic number, version, machine, object, keys), then the storages; also what
  the official pickles hold for each of their storages.
* tar (torch 0.1): members for object, tensors and storages.

Layouts as in ``torch/serialization.py``; the order of things, not its code.
"""

from __future__ import annotations

import struct
from typing import Any

from torch import Tensor

from skiptune.checkpoints.reading.archives import is_tar, is_zip, tar_members, zip_members
from skiptune.checkpoints.reading.pickle_machine import Refused
from skiptune.checkpoints.reading.safe_pickle import Context, Handler, read_pickle
from skiptune.checkpoints.reading.storages import ElementType, Storage

MAGIC, LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
Storages = dict[str, Storage]


def read_torch(data: memoryview, context: Context) -> Any:
    """The object of a torch file or plain pickle; tensors are empty until ``context.tensors.lay()``.

    Raises Refused.
    """
    if is_zip(data):
        return read_zip(data, context)
    if is_tar(data):
        return read_tar(data, context)
    value, position = read_pickle(data, Handler(context))
    return read_legacy(data, context, position) if type(value) is int and value == MAGIC else value


def read_zip(data: memoryview, context: Context) -> Any:
    """The object of a zip file. Raises Refused."""
    members = zip_members(data)
    objects = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(objects) != 1:
        raise Refused("is a zip file, but none that torch.save wrote: it holds no data.pkl")
    folder = objects[0].removesuffix("data.pkl")
    if bytes(members.get(f"{folder}byteorder", b"little")) != b"little":
        raise Refused("has numbers in big-endian order, which is not supported")
    storages: Storages = {}

    def find(identifier: Any) -> Storage:
        key, storage = _storage(identifier, storages)
        storage.data = members.get(f"{folder}data/{key}")
        return storage

    return read_pickle(members[objects[0]], Handler(context, find))[0]


def read_legacy(data: memoryview, context: Context, position: int) -> Any:
    """The object of a legacy file after its magic number. Raises Refused."""
    plain = Handler(context)
    version, position = read_pickle(data, plain, position)
    machine, position = read_pickle(data, plain, position)
    if version != LEGACY_VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise Refused("is a legacy torch file of an unknown version or byte order")
    storages: Storages = {}
    handler = Handler(context, lambda identifier: _storage(identifier, storages)[1])
    value, position = read_pickle(data, handler, position)
    keys, position = read_pickle(data, plain, position)
    for key in _list(keys):
        storage = storages.get(key) if isinstance(key, str) else None
        if storage is None or storage.data is not None:
            raise Refused("is a damaged legacy torch file: its list of storages is wrong")
        storage.data, position = _counted_elements(data, position, storage)
    return value


def read_tar(data: memoryview, context: Context) -> Any:
    """The object of a tar file. Raises Refused."""
    members = tar_members(data)
    if missing := {"storages", "tensors", "pickle"} - members.keys():
        raise Refused(f"is a tar file, but none that torch wrote: it holds no {min(missing)}")
    storages = _tar_storages(members["storages"], context)
    tensors = _tar_tensors(members["tensors"], context, storages)

    def find(identifier: Any) -> Any:
        if type(identifier) not in (str, int) or int(identifier) not in tensors:
            raise Refused("refers to an object that its tar file does not hold")
        return tensors[int(identifier)]

    return read_pickle(members["pickle"], Handler(context, find))[0]


def _storage(identifier: Any, storages: Storages) -> tuple[str, Storage]:
    """Key and storage of ``("storage", type, key, device, elements[, view])``, the same for the same key."""
    if type(identifier) is not tuple or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise Refused("refers to an object outside of the pickle that is no storage")
    _, kind, key, _, numel, *view = identifier
    if not isinstance(kind, ElementType) or type(key) is not str or type(numel) is not int or numel < 0:
        raise Refused("refers to a storage in a way that torch does not")
    if view not in ([], [None]):
        raise Refused("refers to a part of a storage, as only the first torch versions did")
    storage = storages.setdefault(key, Storage(kind.dtype, numel))
    if (storage.dtype, storage.numel) != (kind.dtype, numel):
        raise Refused("refers to one storage as two of different type or size")
    return key, storage


def _counted_elements(data: memoryview, position: int, storage: Storage) -> tuple[memoryview, int]:
    """The bytes of a storage behind their number of elements, and the position behind them."""
    (numel,) = struct.unpack("<q", data[position : position + 8])
    position += 8
    end = position + numel * storage.dtype.itemsize
    if numel != storage.numel:
        raise Refused(f"is a damaged torch file: {numel} elements in a storage of {storage.numel}")
    if end > len(data):
        raise Refused("is a truncated torch file: the bytes of a storage are missing")
    return data[position:end], end


def _tar_storages(data: memoryview, context: Context) -> dict[int, Storage]:
    count, position = read_pickle(data, Handler(context))
    storages: dict[int, Storage] = {}
    for _ in range(_count(count)):
        item, position = read_pickle(data, Handler(context), position)
        key, _, kind = item
        if type(key) is not int or not isinstance(kind, ElementType):
            raise Refused("is a damaged tar file of torch: a storage has no type")
        (numel,) = struct.unpack("<q", data[position : position + 8])
        storages[key] = Storage(kind.dtype, numel)
        if numel < 0:
            raise Refused("is a damaged tar file of torch: a storage of negative size")
        storages[key].data, position = _counted_elements(data, position, storages[key])
    views, _ = read_pickle(data, Handler(context), position)
    if _list(views):
        raise Refused("has storages that are parts of others, as only the first torch versions wrote")
    return storages


def _tar_tensors(data: memoryview, context: Context, storages: dict[int, Storage]) -> dict[int, Tensor]:
    count, position = read_pickle(data, Handler(context))
    tensors: dict[int, Tensor] = {}
    for _ in range(_count(count)):
        item, position = read_pickle(data, Handler(context), position)
        key, storage, _ = item
        if type(key) is not int or type(storage) is not int or storage not in storages:
            raise Refused("is a damaged tar file of torch: a tensor has no storage")

        dimensions, _ = struct.unpack("<ii", data[position : position + 8])
        form = struct.Struct(f"<{2 * dimensions + 1}q")
        numbers = form.unpack(data[position + 8 : position + 8 + form.size])
        position += 8 + form.size
        size, stride = numbers[:dimensions], numbers[dimensions:-1]
        tensors[key] = context.tensors.rebuild(storages[storage], numbers[-1], size, stride)
    return tensors


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise Refused("is a damaged tar file of torch: a number of members is missing")
    return value


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Refused("is a damaged torch file: the list of its storages is missing")
    return value
