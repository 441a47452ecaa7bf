"""What a pickle may refer to, and the inert thing that each name becomes: anything else is refused by name.

No name is ever imported. Tensors and numpy arrays are rebuilt by our own functions over the bytes of the
file, containers become Python's, NVIDIA's persistent objects become records, and a few classes that a
training framework leaves beside the weights become mere names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from skiptune.checkpoints.reading import numpy_pickle, persistence
from skiptune.checkpoints.reading.numpy_pickle import NumpyType
from skiptune.checkpoints.reading.persistence import ModuleRecord
from skiptune.checkpoints.reading.pickle_machine import Budget, Global, Machine, Refused, checked_key
from skiptune.checkpoints.reading.pickle_opcodes import run
from skiptune.checkpoints.reading.storages import DTYPES, ElementType, Storage, Tensors, natural_numbers

DEEPEST_NESTING = 2  # pickles in the storage bytes of a pickle; official files have one level
MODULES = ("ModuleDict", "ModuleList", "Sequential")
# Classes named beside the weights in Lightning's .ckpt files (CompVis/latent-diffusion).
MERE_NAMES = (
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ("pytorch_lightning.callbacks.early_stopping", "EarlyStopping"),
)


class Forbidden(Refused):
    """A file refers to a global that is not on the list."""


class Context:
    """What all pickles of one file share.

    Args:
        size: bytes of the file, which limit what may be copied out of it.
        nested: reads the bytes that official pickles hold for each storage, themselves a torch file.
    """

    def __init__(self, size: int, nested: Callable[[memoryview, Context], Any]) -> None:
        self.budget, self.nested, self.tensors, self.depth = Budget(size), nested, Tensors(), 0
        self.allowed = allow_list(self)


class Handler:
    """Answers to the machine for one pickle; ``storage`` finds what the format keeps outside of it."""

    def __init__(self, context: Context, storage: Callable[[Any], Any] | None = None) -> None:
        self.context, self.storage = context, storage

    def find(self, module: str, name: str) -> Any:
        found = self.context.allowed.get((module, name))
        if found is None:
            raise Forbidden(f"refers to {printable(f'{module[:100]}.{name[:100]}')}")
        return found

    def persistent(self, identifier: Any) -> Any:
        if self.storage is None:
            raise Refused("refers to objects outside of the pickle")
        return self.storage(identifier)

    def build(self, value: Any, state: Any) -> None:
        if isinstance(value, np.ndarray):
            numpy_pickle.fill(value, state, self.context.budget)
        elif isinstance(value, NumpyType):
            value.build(state)
        elif type(value) is ModuleRecord and isinstance(state, dict) and not value.state:
            value.state = state
        elif type(value) is OrderedDict and isinstance(state, dict):
            pass  # `_metadata` of a state dict: versions of modules, of no use here
        elif type(value) is not dict or state:
            raise Refused(f"sets the state of a {type(value).__name__}, which no official file does")


def read_pickle(data: memoryview, handler: Handler, position: int = 0) -> tuple[Any, int]:
    """The value of a pickle and the position behind it; tensors are empty until ``Tensors.lay``.

    Raises Refused.
    """
    machine = Machine(data, handler, handler.context.budget, position)
    return run(machine), machine.position


def allow_list(context: Context) -> dict[tuple[str, str], Any]:
    """What each allowed name, as (module, name), stands for."""
    budget = context.budget
    found: dict[tuple[str, str], Any] = {}

    def allow(module: str, name: str, call: Callable[..., Any] | None = None) -> None:
        found[module, name] = Global(f"{module}.{name}", call=call)

    def allow_class(module: str, name: str, make: Callable[..., Any]) -> None:
        found[module, name] = Global(f"{module}.{name}", make=make)

    allow("collections", "OrderedDict", partial(_ordered_dict, budget))
    for module in ("builtins", "__builtin__"):
        allow(module, "set", partial(_set, budget))
        allow(module, "bytes", lambda: memoryview(b""))  # as protocol 2 writes an empty one
    allow("_codecs", "encode", partial(_encode, budget))
    allow_class("dnnlib.util", "EasyDict", lambda: {})
    allow("torch_utils.persistence", "_reconstruct_persistent_obj", persistence.reconstruct)
    for name in MODULES:
        allow_class("torch.nn.modules.container", name, partial(_module, name))
    for module, name in MERE_NAMES:
        allow(module, name)

    allow("torch._utils", "_rebuild_tensor_v2", context.tensors.rebuild)
    allow("torch._utils", "_rebuild_parameter", _parameter)
    allow("torch.storage", "_load_from_bytes", partial(_nested_storage, context))
    allow("torch", "Size", lambda sizes: natural_numbers(sizes, "a size"))
    for prefix, dtype in DTYPES.items():
        found["torch", str(dtype).removeprefix("torch.")] = dtype
        for name in (f"{prefix}Storage", f"{prefix}Tensor"):
            found["torch", name] = ElementType(f"torch.{name}", dtype=dtype)

    for module in ("numpy.core", "numpy._core"):  # the older and the newer numpy
        allow(f"{module}.multiarray", "_reconstruct", numpy_pickle.empty_array)
        allow(f"{module}.multiarray", "scalar", numpy_pickle.scalar)
        allow(f"{module}.numeric", "_frombuffer", partial(numpy_pickle.array_of_bytes, budget=budget))
    allow("numpy", "ndarray")
    allow("numpy", "dtype", numpy_pickle.numpy_type)
    return found


def printable(text: str) -> str:
    """The text, safe for one line of a terminal."""
    return text if text.isprintable() else ascii(text)


def _module(class_name: str) -> ModuleRecord:
    return ModuleRecord(class_name)


def _ordered_dict(budget: Budget, pairs: Any = ()) -> OrderedDict[Any, Any]:
    made: OrderedDict[Any, Any] = OrderedDict()
    for key, value in _counted(budget, pairs):
        made[checked_key(key)] = value
    return made


def _set(budget: Budget, elements: Any = ()) -> set[Any]:
    return {checked_key(element) for element in _counted(budget, elements)}


def _counted(budget: Budget, items: Any) -> Any:
    if type(items) not in (list, tuple):
        raise Refused(f"makes a container from a {type(items).__name__}")
    budget.spend(len(items))
    return items


def _encode(budget: Budget, text: Any, encoding: Any) -> memoryview:
    if type(text) is not str or encoding != "latin1":
        raise Refused("calls _codecs.encode in a way that no official file does")
    budget.spend(copied=len(text))
    return memoryview(text.encode("latin1"))


def _parameter(data: Any, *details: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise Refused("has a parameter that is no tensor")
    return data


def _nested_storage(context: Context, data: Any) -> Storage:
    if not isinstance(data, memoryview) or context.depth >= DEEPEST_NESTING:
        raise Refused("has storage bytes nested in a way that no official file has")
    context.budget.spend(copied=len(data))  # the same bytes are not read again and again
    context.depth += 1
    storage = context.nested(data, context)
    context.depth -= 1
    if not isinstance(storage, Storage):
        raise Refused("has bytes in place of a storage that hold something else")
    return storage
