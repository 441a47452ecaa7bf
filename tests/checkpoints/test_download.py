"""Official files in a folder: verified, remembered, never fetched twice; mirrors; folders of the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from downloads import CONTENT, SHA256, Client
from file_server import Answer, FileServer

from skiptune.checkpoints.fetching.download import download
from skiptune.checkpoints.fetching.official import OfficialFile, bytes_text
from skiptune.checkpoints.fetching.records import record_path
from skiptune.errors import SkiptuneError


def test_first_download_is_trusted_and_said_so(client: Client, server: FileServer) -> None:
    outcome = client.get()
    assert "downloaded" in str(outcome) and "recorded now, at first use: the source publishes no" in str(
        outcome
    )
    record = json.loads(record_path(client.target).read_text())
    assert record["sha256"] == SHA256 and record["size"] == len(CONTENT)
    assert record["source"] == f"{server.url}/a/net.pkl" and record["checksum"] == "trusted at first use"
    again = client.get()
    assert again.how == "was here" and f"as recorded on {record['date']}" in str(again)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("published", "trust"),
    [
        ({"sha256": SHA256}, "as published"),
        ({"sha256": SHA256[:8], "size": len(CONTENT)}, "as published"),
        ({"md5": hashlib.md5(CONTENT).hexdigest()}, "(md5 as published)"),
    ],
)
def test_published_checksums(
    client: Client, server: FileServer, published: dict[str, Any], trust: str
) -> None:
    assert client.get(**published).trust == trust
    assert client.get(**published).how == "was here"
    assert len(server.requests) == 1


@pytest.mark.parametrize("published", [{"sha256": "0" * 64}, {"md5": "0" * 32}])
def test_wrong_bytes_are_not_kept(client: Client, server: FileServer, published: dict[str, str]) -> None:
    with pytest.raises(
        SkiptuneError, match=r"instead of 0000.*nothing of what http.* sent is kept"
    ) as caught:
        client.get(**published)
    assert "\n" not in str(caught.value) and client.left() == set()


def test_another_file_at_the_same_address_is_refused(client: Client, server: FileServer) -> None:
    client.get()
    client.target.unlink()
    server.content = b"\x80other"
    with pytest.raises(SkiptuneError, match=r"was recorded on .*, or delete .*download.json if you trust"):
        client.get()
    assert client.left() == {"net.pkl.download.json"}
    record_path(client.target).unlink()
    assert client.get().size == 6


def test_damage_after_the_download_is_noticed_and_nothing_overwritten(
    client: Client, server: FileServer
) -> None:
    client.get()
    damaged = CONTENT[:-1] + b"x"
    client.target.write_bytes(damaged)
    with pytest.raises(SkiptuneError, match="delete it and run this again"):
        client.get()
    assert client.target.read_bytes() == damaged and len(server.requests) == 1


def test_error_message_saved_as_a_file_is_not_trusted(client: Client, server: FileServer) -> None:
    server.content = b"Service temporarily out of order"
    with pytest.raises(SkiptuneError, match="is no pickle file, it begins with b'Service '"):
        client.get()
    assert client.left() == set()


def test_complete_part_needs_no_server(client: Client, server: FileServer) -> None:
    """Killed between the last byte and the rename."""
    server.script = [Answer(drop_after=len(CONTENT) - 1)]
    server.usual = Answer(404)
    with pytest.raises(SkiptuneError):
        client.get()
    with open(client.part, "ab") as part:
        part.write(CONTENT[-1:])
    requests = len(server.requests)
    assert client.get().sha256 == SHA256 and len(server.requests) == requests


def test_mirror_folder(client: Client, server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    with pytest.raises(SkiptuneError, match=r"the mirror .*/mirror has no net.pkl"):
        client.get(mirror=str(tmp_path / "mirror"))
    (tmp_path / "mirror/net.pkl").write_bytes(CONTENT)
    outcome = client.get(mirror=str(tmp_path / "mirror"), sha256=SHA256)
    assert outcome.how == "copied" and client.target.read_bytes() == CONTENT
    assert server.requests == []


def test_mirror_folder_with_wrong_bytes(client: Client, tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(b"\x80wrong")
    with pytest.raises(SkiptuneError, match="instead of"):
        client.get(mirror=str(tmp_path), sha256=SHA256)
    assert client.left() == set()


def test_copy_does_not_go_on_from_another_source(client: Client, server: FileServer, tmp_path: Path) -> None:
    server.script, server.usual = [Answer(drop_after=1000)], Answer(404)
    with pytest.raises(SkiptuneError):
        client.get()
    (tmp_path / "net.pkl").write_bytes(CONTENT)
    assert client.get(mirror=str(tmp_path)).sha256 == SHA256


def test_mirror_address(client: Client, server: FileServer) -> None:
    client.get(mirror=f"{server.url}/lab/", urls=("http://127.0.0.1:9/never",))
    assert [path for path, _ in server.requests] == ["/lab/net.pkl"]
    assert client.target.read_bytes() == CONTENT


def test_file_placed_by_hand(client: Client, server: FileServer) -> None:
    with pytest.raises(SkiptuneError, match="large; get it with a browser from https://x.example/, place it"):
        client.get(urls=(), page="https://x.example/", note="large")
    client.folder.mkdir()
    client.target.write_bytes(CONTENT)
    outcome = client.get(urls=(), page="https://x.example/")
    assert outcome.how == "was here" and "recorded now" in outcome.trust
    assert json.loads(record_path(client.target).read_text())["source"] == "found here"


def test_something_else_in_the_way(client: Client) -> None:
    client.target.mkdir(parents=True)
    with pytest.raises(SkiptuneError, match="in the way"):
        client.get()


@pytest.mark.parametrize("content", ["{", "[]", '{"sha256": "x"}'])
def test_damaged_record(client: Client, content: str) -> None:
    client.get()
    record_path(client.target).write_text(content)
    with pytest.raises(SkiptuneError, match="download.json"):
        client.get()


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"file": "../net.pkl"}, "file is no plain file name"),
        ({"format": "exe"}, "format is none of pickle"),
        ({"urls": ["ftp://x"]}, "urls must begin"),
        ({"urls": []}, "it has neither urls nor hub nor page"),
        ({"sha256": "abc"}, "sha256 is not"),
        ({"md5": "0"}, "md5 is not"),
        ({"size": "big"}, "size is no number"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_senseless_configurations(
    make_official: Callable[..., OfficialFile], values: dict[str, Any], line: str
) -> None:
    with pytest.raises(SkiptuneError, match=line):
        make_official(**values)


def test_missing_values_are_named() -> None:
    with pytest.raises(SkiptuneError, match=r"configs/checkpoint/net.yaml: missing .*'format'"):
        OfficialFile.of("net", {"file": "net.pkl"})


def test_sizes_for_readers() -> None:
    assert [bytes_text(n) for n in (950, 95_628_359, 1.184e9)] == ["0.95 kB", "95.6 MB", "1.18 GB"]


@pytest.fixture
def pipeline(make_official: Callable[..., OfficialFile]) -> OfficialFile:
    return make_official(file="sd", format="diffusers", hub="someone/sd")


def test_folder_of_the_hub_from_a_mirror(pipeline: OfficialFile, tmp_path: Path) -> None:
    folder, mirror = tmp_path / "checkpoints", tmp_path / "mirror"
    mirror.mkdir()
    with pytest.raises(SkiptuneError, match="has no folder sd"):
        download(pipeline, folder, str(mirror))
    (mirror / "sd/unet").mkdir(parents=True)
    (mirror / "sd/model_index.json").write_text("{}")
    with pytest.raises(SkiptuneError, match="holds no weights"):
        download(pipeline, folder, str(mirror))
    (mirror / "sd/unet/net.safetensors").write_bytes(CONTENT)
    outcome = download(pipeline, folder, str(mirror))
    assert outcome.how == "copied" and outcome.size == len(CONTENT) + 2 and "recorded now" in outcome.trust
    assert (folder / "sd/unet/net.safetensors").read_bytes() == CONTENT
    assert {path.name for path in folder.iterdir()} == {"sd", "sd.download.json"}
    again = download(pipeline, folder)
    assert again.how == "was here" and again.sha256 == outcome.sha256
    (folder / "sd/model_index.json").write_text("[]")
    with pytest.raises(SkiptuneError, match="is not what was recorded of net on"):
        download(pipeline, folder)


def test_hub_out_of_reach_is_one_line(
    pipeline: OfficialFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SkiptuneError) as caught:
        download(pipeline, tmp_path / "checkpoints")
    assert "\n" not in str(caught.value) and "huggingface" in str(caught.value)
