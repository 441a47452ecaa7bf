"""A file as official ones are, and a client of patience measured in hundredths of a second."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skiptune.checkpoints.fetching.download import download
from skiptune.checkpoints.fetching.official import OfficialFile
from skiptune.checkpoints.fetching.records import Outcome
from skiptune.checkpoints.fetching.transfer import Patience

CONTENT = b"\x80" + random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Client:
    """Downloads one file into a folder and remembers what was said."""

    folder: Path
    official: OfficialFile
    said: list[str]

    def get(self, mirror: str | None = None, patience: Patience | None = None, **change: Any) -> Outcome:
        patience = patience or Patience(retries=3, backoff=0.01, longest=5.0, timeout=2.0)
        return download(replace(self.official, **change), self.folder, mirror, patience, self.said.append)

    @property
    def target(self) -> Path:
        return self.folder / self.official.file

    @property
    def part(self) -> Path:
        return self.folder / f".{self.official.file}.part"

    def left(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
