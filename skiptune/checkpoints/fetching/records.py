"""What is remembered of a verified file: ``<file>.download.json`` beside it."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from skiptune.checkpoints.fetching.official import bytes_text
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import read_json, write_atomic

FIRST_USE = "recorded now, at first use"


@dataclass(frozen=True)
class Outcome:
    """A verified file: how it came to be there, and on whose word its checksum is believed."""

    name: str
    path: Path
    size: int
    sha256: str
    how: str
    trust: str

    def __str__(self) -> str:
        size = bytes_text(self.size)
        return f"{self.name}: {self.path} ({size}) {self.how}; sha256 {self.sha256[:16]} {self.trust}"


@dataclass(frozen=True)
class Record:
    """What is kept of a verified file."""

    sha256: str
    size: int
    source: str
    date: str
    checksum: str

    @classmethod
    def read(cls, target: Path) -> Record | None:
        """Raises SkiptuneError if it is damaged."""
        path = record_path(target)
        if not path.exists():
            return None
        try:
            return cls(**read_json(path))
        except TypeError as error:
            raise SkiptuneError(f"{path} is no record of a download: delete it") from error

    def write(self, target: Path) -> None:
        write_atomic(record_path(target), json.dumps(asdict(self), indent=1) + "\n")


def record_path(target: Path) -> Path:
    """Where the record of a file lies."""
    return target.with_name(target.name + ".download.json")


def remember(target: Path, size: int, sha256: str, source: str, trust: str) -> None:
    """Record what was verified for ``target``, unless that is recorded already."""
    # Written before the file appears: a file without record was placed by somebody else.
    earlier = Record.read(target)
    if earlier is None or earlier.sha256 != sha256:
        checksum = "trusted at first use" if trust.startswith(FIRST_USE) else trust
        Record(sha256, size, source, datetime.date.today().isoformat(), checksum).write(target)
