from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import canonical_json
from skiptune.runtime.provenance import commit, device, provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package folder in a repository with one commit."""
    package = tmp_path / "repository" / "package"
    package.mkdir(parents=True)
    (package / "code.py").write_text("a = 1\n")
    (package.parent / "table.md").write_text("1.0\n")
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "first")
    return package


def test_commit_names_the_code_and_whether_it_is_changed(package):
    sha = git(package, "rev-parse", "HEAD")
    assert commit(package) == sha
    (package.parent / "table.md").write_text("2.0\n")
    (package / "untracked.py").touch()
    assert commit(package) == sha
    (package / "code.py").write_text("a = 2\n")
    assert commit(package) == sha + "-dirty"


def test_commit_is_unknown_outside_git_and_in_another_repository(tmp_path, package):
    (tmp_path / "plain").mkdir()
    assert commit(tmp_path / "plain") == "unknown"
    installed = package.parent / ".venv" / "site-packages" / "skiptune"
    installed.mkdir(parents=True)
    (installed / "code.py").touch()
    assert commit(installed) == "unknown"


def test_provenance_is_a_plain_value():
    value = provenance()
    canonical_json(value)
    assert value["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "cores)" in value["device"] and not value["device"].startswith(" ")
    assert datetime.fromisoformat(value["started"]).utcoffset().total_seconds() == 0
    assert value.keys() == {"commit", "packages", "python", "device", "started"}


def test_device_names():
    assert device("cpu") == torch.device("cpu")
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SkiptuneError, match="unknown device 'gpu'"):
        device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_gpu_is_refused():
    with pytest.raises(SkiptuneError, match="torch sees no GPU"):
        device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_is_the_gpu_of_the_local_rank(monkeypatch):
    assert device("cuda") == torch.device("cuda", 0)
    assert provenance("cuda")["device"] == torch.cuda.get_device_name(0)
    for name, value in {"RANK": "99", "WORLD_SIZE": "100", "LOCAL_RANK": "99"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SkiptuneError, match="one process a GPU"):
        device("cuda")
