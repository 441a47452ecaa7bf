"""One door for checkpoint files: format by content, nothing executed, tensors laid over the mapped file."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from skiptune.checkpoints.reading.pickle_machine import Refused
from skiptune.checkpoints.reading.safe_pickle import Context, Forbidden, printable
from skiptune.checkpoints.reading.torch_file import read_torch
from skiptune.checkpoints.reading.tree import check_tree
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import unreadable

PICKLE_BEGINS = b"\x80(]}cl"  # with a head (protocol 2 and later), or as old ones do
ADVICE = "use the official file, and check its sha256"


def read_checkpoint(path: str | Path) -> Any:
    """Content of a safetensors file, torch file (zip, legacy, tar) or pickle, by what its bytes say.

    Returns plain containers, numbers, text, tensors and, for NVIDIA's snapshots, ``PersistentRecord``.
    Tensors lie over the mapped file without a copy (writing to them does not change it), so keep the file in
    place while they live. They are not always aligned to their type: copy them into a network's parameters.
    Byte strings are memoryviews. The value is a finite tree.

    Raises:
        SkiptuneError: one line; for a global that is not allowed it names it.
    """
    path = Path(path)
    name = printable(str(path))
    try:
        data = map_file(path)
        if path.suffix == ".safetensors" or is_safetensors(data):
            return load_file(path)
        return read_bytes(data)
    except SkiptuneError:
        raise
    except Forbidden as error:
        raise SkiptuneError(
            f"{name} is refused: it {error}, which is not allowed in a checkpoint; {ADVICE}"
        ) from error
    except Refused as error:
        raise SkiptuneError(f"{name} cannot be loaded: it {error}; {ADVICE}") from error
    except OSError as error:
        raise unreadable(name, error) from error
    except Exception as error:  # a hostile file must not choose what is shown
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise SkiptuneError(f"{name} cannot be loaded ({printable(reason)}); {ADVICE}") from error


def read_bytes(data: memoryview) -> Any:
    """Content of a torch file or pickle that lies in memory. Raises Refused."""
    if not len(data):
        raise Refused("is empty")
    if data[0] not in PICKLE_BEGINS + b"P" and bytes(data[257:262]) != b"ustar":
        begin = bytes(data[:16])
        raise Refused(f"is no checkpoint: neither safetensors, torch file nor pickle begins with {begin!r}")
    # Twice: an array of a pickle of protocol 2 is charged as text, of which it takes half, and as an array.
    context = Context(2 * len(data), read_torch)
    value = read_torch(data, context)
    context.tensors.lay()
    check_tree(value)
    return value


def map_file(path: Path) -> memoryview:
    """The bytes of a file, read when they are used; writing to them makes private copies of pages.

    Raises OSError, and Refused if it is no regular file.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for someone to write
        raise Refused("is no regular file")
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def is_safetensors(data: memoryview) -> bool:
    """Whether the bytes begin with the length of a JSON header that follows."""
    header = int.from_bytes(data[:8], "little")
    return len(data) > 9 and header <= len(data) - 8 and data[8] == ord("{")
