"""An unfinished download: its bytes, held by one process at a time, and the version they are of."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import unwritable, write_atomic

try:
    import fcntl
except ImportError:  # not on Windows: there nothing keeps two processes apart
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Part:
    """``.<name>.part`` beside the file it becomes, open for appending; ``.<name>.part.json`` is its mark."""

    path: Path
    file: BinaryIO

    @property
    def notes(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def length(self) -> int:
        """Bytes so far."""
        return os.fstat(self.file.fileno()).st_size

    def mark(self) -> dict[str, Any]:
        """What was noted of the version; empty if that is not known."""
        with contextlib.suppress(OSError, ValueError):
            noted = json.loads(self.notes.read_text())
            if isinstance(noted, dict):
                return noted
        return {}

    def note(self, mark: dict[str, Any]) -> None:
        """Keep what is known of the version, unless that is noted already."""
        if self.mark() != mark:
            write_atomic(self.notes, json.dumps(mark))

    def restart(self) -> None:
        """Forget the bytes and what they are of."""
        self.notes.unlink(missing_ok=True)
        if self.length:
            self.file.truncate(0)

    def append(self, content: bytes) -> None:
        """Raises SkiptuneError if the disk takes no more; what is there is kept."""
        view = memoryview(content)
        try:
            while view:
                view = view[self.file.write(view) :]
        except OSError as error:
            raise unwritable(self.path, error) from error

    def check_space(self, total: int | None) -> None:
        """Raises SkiptuneError if a file of that many bytes does not fit."""
        folder = self.path.parent
        need, free = (total or 0) - self.length, shutil.disk_usage(folder).free
        if need > free:
            raise SkiptuneError(f"{folder} has {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB are needed")

    def become(self, target: Path) -> None:
        """The whole file, safe on the disk and under its name. Raises SkiptuneError if that is refused."""
        try:
            os.fsync(self.file.fileno())
            os.replace(self.path, target)
        except OSError as error:
            raise unwritable(target, error) from error
        self.notes.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing."""
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


@contextlib.contextmanager
def open_part(target: Path) -> Iterator[Part]:
    """The part of ``target``, locked.

    Raises:
        SkiptuneError: it cannot be written, or another process holds it.
    """
    path = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise unwritable(target, error) from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise SkiptuneError(f"another process is downloading {target}: wait for it") from error
        # Between open and lock another process may have finished: then this is its file, not a part of ours.
        if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
            raise SkiptuneError(f"another process has just finished {target}: run the command again")
        try:
            yield Part(path, cast(BinaryIO, file))
        finally:
            if path.is_file() and not path.stat().st_size:
                path.unlink()
