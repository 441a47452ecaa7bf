"""Whole files or none: atomic writes, canonical JSON and SHA-256 digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
import time
from pathlib import Path
from typing import Any

from skiptune.errors import SkiptuneError

TEMPORARY_SUFFIX = ".tmp"
VISIBLE = 120.0  # seconds within which what another node has written shows; NFS takes up to 60


def canonical_json(value: Any) -> str:
    """One text per value: keys sorted, no spaces, floats as `repr`, ASCII only.

    Takes dict (str keys), list, str, int, float, bool and None, exactly these types, so that a hash of the
    text is a hash of the value. Raises SkiptuneError, naming the place, for anything else and for NaN or inf.
    """
    check_plain(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def check_plain(value: Any, place: str = "") -> None:
    """Raises SkiptuneError unless `value` is made of plain, finite JSON values."""
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise SkiptuneError(f"key {key!r} of '{place or 'the top'}' is no string: use string keys")
            check_plain(item, f"{place}.{key}" if place else key)
    elif type(value) is list:
        for index, item in enumerate(value):
            check_plain(item, f"{place}[{index}]")
    elif type(value) is float:
        if not math.isfinite(value):
            raise SkiptuneError(f"value of '{place}' is {value}: only finite numbers can be stored")
    elif type(value) not in (str, int, bool, type(None)):
        kind = type(value).__name__
        raise SkiptuneError(f"value of '{place}' is a {kind}: use dict, list, str, int, float, bool or None")


def digest(content: bytes | str) -> str:
    """SHA-256 of bytes or of UTF-8 text, 64 hex digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits. Raises SkiptuneError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write a whole file or nothing, whenever the process is killed: temporary file, fsync, rename.

    Makes the folder if needed; the last of several writers wins. Raises SkiptuneError if it cannot write.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def file_system_now(folder: Path) -> float:
    """Seconds by the clock of the file system, the server's on a network; this machine's may differ.

    Raises SkiptuneError if nothing can be written in `folder`.
    """
    probe = folder / f".now.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    try:
        with open(probe, "x") as file:
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def is_shown(path: Path, seconds: float = VISIBLE) -> bool:
    """Whether a file that another node says it has written is there; waits for it.

    A network file system remembers for up to a minute that it was absent, unless one writes beside it.
    Raises SkiptuneError if nothing can be written there.
    """
    end = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > end:
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(path.parent, error) from error
        file_system_now(path.parent)
        time.sleep(0.1)
    return True


def remove_stale(folder: Path, age: float = 3600.0) -> None:
    """Remove temporary files that killed writers left in `folder` more than `age` seconds ago."""
    temporaries = list(folder.glob(f".*{TEMPORARY_SUFFIX}"))
    if not temporaries:
        return
    now = file_system_now(folder)
    for temporary in temporaries:
        with contextlib.suppress(OSError):
            if now - temporary.stat().st_mtime > age:
                temporary.unlink()


def read_json(path: str | Path) -> Any:
    """Value of a JSON file. Raises SkiptuneError if it is missing or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise SkiptuneError(f"{path} is damaged, not JSON ({error}): delete it and make it again") from error


def unreadable(path: str | Path, error: OSError) -> SkiptuneError:
    """The one-line error for a file that cannot be read."""
    return SkiptuneError(f"cannot read {path} ({error.strerror or error}): check the path and permissions")


def unwritable(path: str | Path, error: OSError) -> SkiptuneError:
    """The one-line error for a file or folder that cannot be written."""
    why = error.strerror or error
    return SkiptuneError(f"cannot write {path} ({why}): choose a writable folder with free space")


def _sync_folder(folder: Path) -> None:
    # The rename itself survives a power cut only once the folder is synced; some file systems refuse this.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
