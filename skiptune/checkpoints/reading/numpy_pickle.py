"""Numpy arrays and numbers in pickles, rebuilt from their bytes; only types made of plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from skiptune.checkpoints.reading.pickle_machine import Budget, Global, Refused
from skiptune.checkpoints.reading.storages import natural_numbers

DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class NumpyType:
    """A numpy dtype in a file, complete once BUILD has given its byte order."""

    code: str
    order: str = "<"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)

    def build(self, state: Any) -> None:
        """Byte order of ``(version, order, subdtype, names, fields, ...)``. Raises Refused for the others."""
        plain = type(state) is tuple and state[2:5] == (None, None, None)
        if not plain or state[1] not in ("<", ">", "|", "="):
            raise Refused("has a numpy type with fields")
        self.order = state[1]


def numpy_type(code: Any, *details: Any) -> NumpyType:
    """``numpy.dtype(code, False, True)``. Raises Refused for types that are not plain numbers."""
    if type(code) is not str or code not in DTYPES:
        raise Refused("has a numpy array or number of a type that is no plain number")
    return NumpyType(code)


def scalar(dtype: Any, data: Any) -> bool | int | float | complex:
    """A numpy number as Python's. Raises Refused."""
    if not isinstance(dtype, NumpyType) or not isinstance(data, memoryview):
        raise Refused("has a numpy number of an unknown type")
    if len(data) != dtype.dtype.itemsize:
        raise Refused("has a damaged numpy number")
    return np.frombuffer(data, dtype.dtype)[0].item()


def empty_array(kind: Any, shape: Any, code: Any) -> Array:
    """``_reconstruct(numpy.ndarray, (0,), b"b")``: BUILD gives it its content (`fill`). Raises Refused."""
    if not isinstance(kind, Global) or kind.name != "numpy.ndarray" or shape != (0,):
        raise Refused("makes a numpy array in a way that no official file does")
    return np.empty(0)


def fill(array: Array, state: Any, budget: Budget) -> None:
    """``(version, shape, dtype, fortran, bytes)`` of an array. Raises Refused."""
    _, shape, dtype, fortran, data = state
    made = array_of_bytes(data, dtype, shape, "F" if fortran is True else "C", budget)
    content = (1, made.shape, made.dtype, fortran is True, made.tobytes("A"))
    array.__setstate__(content)  # type: ignore[arg-type]  # the stub wants numpy's bool


def array_of_bytes(data: Any, dtype: Any, shape: Any, order: Any, budget: Budget) -> Array:
    """A copy of the bytes as an array. Raises Refused unless shape and type need exactly these bytes."""
    if not isinstance(dtype, NumpyType) or not isinstance(data, memoryview) or order not in ("C", "F"):
        raise Refused("has a numpy array of something other than numbers")
    shape = natural_numbers(shape, "the shape of a numpy array")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise Refused(f"has a numpy array of shape {shape} in {len(data)} bytes")
    budget.spend(copied=len(data))
    return np.frombuffer(bytes(data), dtype.dtype).reshape(shape, order=order).copy(order)
