"""Snapshots in the layout of NVIDIA's official files with other weights, to test and to time loading.

The layout: ``{"ema": network, ...}``; each module is a call of ``_reconstruct_persistent_obj`` in
``torch_utils.persistence`` with its instance dictionary, except the ``ModuleDict`` of encoder and decoder,
and each storage is a legacy torch file in a byte string. In place of the source text stands a comment.
"""

from __future__ import annotations

import pickle
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PROTOCOL, VERSION = 4, 6
SOURCE = "# In an official file the source of the module stands here; a safe reader never runs it.\n"
CONTAINERS = ("enc", "dec")


@dataclass(frozen=True)
class Name:
    """A global that is written without being importable here."""

    module: str
    name: str

    def __call__(self) -> None:
        raise TypeError("only a name")


RECONSTRUCT = Name("torch_utils.persistence", "_reconstruct_persistent_obj")
MODULE_DICT = Name("torch.nn.modules.container", "ModuleDict")
EASY_DICT = Name("dnnlib.util", "EasyDict")


@dataclass(eq=False)
class Persistent:
    """A persistent object: its class name, constructor arguments and further attributes."""

    class_name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def reduced(self) -> tuple[Any, ...]:
        state = {**self.attributes, "_init_args": (), "_init_kwargs": dict(self.kwargs)}
        meta = {"type": "class", "version": VERSION, "module_src": SOURCE, "class_name": self.class_name}
        return RECONSTRUCT, ({**meta, "state": state},)


@dataclass(eq=False)
class Entry:
    """A tensor, filled if it has no values yet (device ``meta``), and forgotten as soon as it is written."""

    name: str
    tensor: Tensor
    dtype: torch.dtype
    parameter: bool

    def reduced(self) -> tuple[Any, ...]:
        value = self.tensor.detach()
        if value.is_meta:
            generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
            value = torch.randn(value.shape, generator=generator).to(value.dtype)
        value = value.to(self.dtype if value.is_floating_point() else value.dtype).contiguous()
        if value.untyped_storage().nbytes() != value.nbytes:
            value = value.clone()  # not the whole of what it is a part of
        if not self.parameter:
            return value.__reduce_ex__(PROTOCOL)
        return torch._utils._rebuild_parameter, (value, False, OrderedDict())


@dataclass(eq=False)
class Made:
    """An object made without its constructor: class, items (of a dictionary) and state, if it has one."""

    kind: Name
    items: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None


_PythonPickler: Any = pickle._Pickler  # its methods are not in the stubs


class _Writer(_PythonPickler):  # type: ignore[misc]
    """Python's own pickler with our stand-ins; it keeps no tensor, so memory stays that of one storage."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Name):
            return value.name
        if isinstance(value, (Persistent, Entry)):
            return value.reduced()
        return NotImplemented

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, Made) or id(obj) in self.memo:
            return super().save(obj, save_persistent_id)
        self.framer.commit_frame()
        self.save(obj.kind)
        self.save(())
        self.write(pickle.NEWOBJ)
        self.memoize(obj)
        self._batch_setitems(iter(obj.items.items()))
        if obj.state is not None:
            self.save(obj.state)
            self.write(pickle.BUILD)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if not isinstance(obj, Name):
            return super().save_global(obj, name)
        self.save(obj.module)
        self.save(obj.name)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)

    def memoize(self, obj: Any) -> None:
        if isinstance(obj, (Tensor, torch.TypedStorage, bytes, tuple, Entry)):
            index = len(self.memo)
            self.write(self.put(index))
            self.memo[-1 - index] = index, None  # no object has a negative id
        else:
            super().memoize(obj)


def write_snapshot(path: Path, content: Any) -> None:
    """Write any value made of plain ones, tensors and the stand-ins above."""
    with open(path, "wb") as file:
        _Writer(file, PROTOCOL).dump(content)


def write_edm(
    path: Path,
    class_name: str,
    kwargs: Mapping[str, Any],
    network: nn.Module,
    attributes: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> None:
    """A file of NVlabs/edm: ``{"ema": network, **beside}``, float32.

    Args:
        class_name, kwargs, attributes: of the outermost module, as the official one would record them.
        network: names and shapes of the official parameters and buffers; on device ``meta`` they are filled
            with random values one by one, so that no full network is ever in memory.
    """
    ema = module_of(network, class_name, kwargs, attributes, torch.float32)
    write_snapshot(path, {"ema": ema, **(beside or {})})


def write_edm2(
    path: Path,
    class_name: str,
    kwargs: Mapping[str, Any],
    network: nn.Module,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """A file of NVlabs/edm2: an ``EasyDict`` with encoder, data set, loss and the network in float16."""
    items = {
        "encoder": Persistent("StandardRGBEncoder"),
        "dataset_kwargs": Made(EASY_DICT, {"class_name": "training.dataset.ImageFolderDataset"}),
        "loss_fn": Persistent("EDM2Loss", attributes={"P_mean": -0.8, "P_std": 1.6, "sigma_data": 0.5}),
        "ema": module_of(network, class_name, kwargs, attributes, torch.float16),
    }
    write_snapshot(path, Made(EASY_DICT, items))


def module_of(
    network: nn.Module,
    class_name: str,
    kwargs: Mapping[str, Any],
    attributes: Mapping[str, Any] | None,
    dtype: torch.dtype,
) -> Persistent:
    """The network as the persistent object that the official class would be."""
    root = _persistent(network, "", dtype)
    return Persistent(class_name, kwargs, {**root.attributes, **(attributes or {})})


def _persistent(module: nn.Module, path: str, dtype: torch.dtype) -> Persistent:
    return Persistent(type(module).__name__, {}, _state(module, path, dtype))


def _state(module: nn.Module, path: str, dtype: torch.dtype) -> dict[str, Any]:
    transient = module._non_persistent_buffers_set

    def entries(tensors: Mapping[str, Tensor | None], parameter: bool) -> dict[str, Entry | None]:
        return {
            name: None if tensor is None else Entry(f"{path}{name}", tensor, dtype, parameter)
            for name, tensor in tensors.items()
            if name not in transient
        }

    children: dict[str, Any] = {}
    for name, child in module._modules.items():
        if child is None or not child.state_dict():
            continue  # an activation of ours, say; the official networks have none without parameters
        make = _container if name in CONTAINERS else _persistent
        children[name] = make(child, f"{path}{name}.", dtype)
    return {
        **vars(nn.Module()),  # hooks and flags, all empty
        "training": False,
        "_parameters": entries(module._parameters, True),
        "_buffers": entries(module._buffers, False),
        "_modules": children,
    }


def _container(module: nn.Module, path: str, dtype: torch.dtype) -> Made:
    return Made(MODULE_DICT, state=_state(module, path, dtype))
