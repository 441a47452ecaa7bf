"""A server that has an official file, and a client of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from downloads import CONTENT, Client  # noqa: E402
from file_server import FileServer  # noqa: E402

from skiptune.checkpoints.fetching.official import OfficialFile  # noqa: E402


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FileServer(CONTENT) as server:
        yield server


@pytest.fixture
def make_official() -> Callable[..., OfficialFile]:
    def make_official(**values: Any) -> OfficialFile:
        usual = {"file": "net.pkl", "format": "pickle", "system": "s", "role": "r", "licence": "l"}
        return OfficialFile.of("net", {"urls": ["https://x.example/net.pkl"], **usual, **values})

    return make_official


@pytest.fixture
def client(server: FileServer, tmp_path: Path, make_official: Callable[..., OfficialFile]) -> Client:
    return Client(tmp_path / "checkpoints", make_official(urls=[f"{server.url}/a/net.pkl"]), [])
