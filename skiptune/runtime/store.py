"""The run store: what was computed, named by the hash of everything that determines it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.runtime import chunks
from skiptune.runtime.files import canonical_json, check_plain, digest, read_json, remove_stale, write_atomic

ID_DIGITS = 20


def run_id(settings: Mapping[str, Any]) -> str:
    """First 20 hex digits of the SHA-256 of the settings' canonical JSON; the keys' order does not matter."""
    return digest(canonical_json(dict(settings)))[:ID_DIGITS]


@dataclass(frozen=True)
class Run:
    """One run: a folder `<root>/runs/<id>` with settings.json, chunks/00003.safetensors and record.json.

    A small value that can be sent to workers. Reading never writes; the folder is made by the first write.
    Any number of processes may write: a file is replaced whole, and equal settings give equal bits. Who makes
    what is agreed by `claims.py`.
    """

    id: str
    folder: Path
    settings: dict[str, Any] = field(compare=False)

    def chunk_path(self, i: int) -> Path:
        return self.folder / "chunks" / f"{i:05d}.safetensors"

    @property
    def record_path(self) -> Path:
        return self.folder / "record.json"

    @property
    def failure_path(self) -> Path:
        return self.folder / "failure.json"

    def has_chunk(self, i: int) -> bool:
        return self.chunk_path(i).exists()

    def missing(self, numbers: int | Iterable[int]) -> list[int]:
        """Which of these chunks (an int n: 0 ... n-1) are not there, in the given order.

        Raises SkiptuneError, before any work is spent, at a chunk that is cut off (size against header).
        """
        wanted = list(range(numbers) if isinstance(numbers, int) else numbers)
        absent = [i for i in wanted if not self.has_chunk(i)]
        for i in set(wanted).difference(absent):
            chunks.check_size(self.chunk_path(i))
        return absent

    def read_chunk(self, i: int) -> dict[str, Tensor]:
        """Tensors of chunk `i` on the CPU. Raises SkiptuneError if it is missing or fails its checksum."""
        return chunks.read(self.chunk_path(i), self._owner(i))

    def write_chunk(self, i: int, tensors: Mapping[str, Tensor]) -> None:
        """Write chunk `i` whole or not at all. Raises SkiptuneError for NaN or inf, or if it cannot write."""
        self._prepare(self.chunk_path(i).parent)
        chunks.write(self.chunk_path(i), tensors, self._owner(i))
        self.failure_path.unlink(missing_ok=True)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Store the result: plain, finite JSON values. Raises SkiptuneError for anything else."""
        check_plain(dict(record), "record")
        self._prepare(self.folder)
        write_atomic(self.record_path, _pretty(dict(record)))

    def record(self) -> dict[str, Any] | None:
        """The stored result, or None while there is none. Raises SkiptuneError if the file is damaged."""
        path = self.record_path
        if not path.exists():
            return None
        record = read_json(path)
        if not isinstance(record, dict):
            raise SkiptuneError(f"{path} is damaged: delete it and run again; the chunks are kept")
        return record

    def write_failure(self, reason: str) -> None:
        """Keep why the last attempt failed, until a chunk is written. Raises SkiptuneError if it cannot."""
        self._prepare(self.folder)
        write_atomic(self.failure_path, _pretty({"reason": reason}))

    def failure(self) -> str | None:
        """Why the last attempt failed, if it did. Raises SkiptuneError if the file is damaged."""
        try:
            return str(read_json(self.failure_path)["reason"])
        except SkiptuneError:
            if self.failure_path.exists():
                raise
            return None  # there is none, or a chunk was written a moment ago

    def _owner(self, i: int) -> str:
        # In the checksum, so that a chunk copied from another run or place is refused.
        return f"{self.id}/{i:05d}"

    def _prepare(self, folder: Path) -> None:
        if not (self.folder / "settings.json").exists():
            write_atomic(self.folder / "settings.json", _pretty(self.settings))
        remove_stale(folder)


@dataclass(frozen=True)
class RunStore:
    """Runs under `<root>/runs`."""

    root: Path

    def __init__(self, root: str | Path) -> None:
        object.__setattr__(self, "root", Path(root).absolute())

    def open(self, settings: Mapping[str, Any]) -> Run:
        """The run with these settings, new or stored. Writes nothing.

        Raises SkiptuneError if the settings are not plain JSON values, or if the stored settings differ.
        """
        text = canonical_json(dict(settings))
        identity = run_id(settings)
        run = Run(identity, self.root / "runs" / identity, json.loads(text))
        stored = run.folder / "settings.json"
        if stored.exists() and canonical_json(read_json(stored)) != text:
            raise _foreign_settings(stored)
        return run

    def load(self, identity: str) -> Run:
        """A stored run by its id. Raises SkiptuneError if it is not there or its settings have another id."""
        stored = self.root / "runs" / identity / "settings.json"
        if not stored.exists():
            raise SkiptuneError(f"no run {identity} in {self.root}: compute it first or choose another store")
        settings = read_json(stored)
        if not isinstance(settings, dict) or run_id(settings) != identity:
            raise _foreign_settings(stored)
        return Run(identity, stored.parent, settings)

    def ids(self) -> list[str]:
        """Ids of all stored runs, sorted."""
        return sorted(path.parent.name for path in self.root.glob("runs/*/settings.json"))

    def check_writable(self) -> None:
        """Raises SkiptuneError now, before hours of work, if runs could not be written."""
        probe = self.root / "runs" / f".probe-{os.getpid()}"
        write_atomic(probe, b"")
        probe.unlink(missing_ok=True)


def _pretty(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _foreign_settings(path: Path) -> SkiptuneError:
    return SkiptuneError(
        f"{path} does not hold the settings that its folder's name stands for (edited or damaged): "
        f"delete the folder {path.parent} and run the same command again"
    )
