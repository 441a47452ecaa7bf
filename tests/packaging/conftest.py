"""The files that say what is installed, parsed once."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;]+)", re.M)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def pinned(text: str) -> dict[str, str]:
    """Package -> version of a lock. One version a package, whatever the Python version."""
    found = [(canonicalize_name(match["name"]), match["version"]) for match in PIN.finditer(text)]
    assert len(dict(found)) == len(found), "a package is pinned twice"
    return dict(found)


@pytest.fixture(scope="session")
def demo_pins() -> dict[str, str]:
    """What the tables need."""
    return pinned((ROOT / "requirements.lock").read_text())


@pytest.fixture(scope="session")
def pins() -> dict[str, str]:
    """All that is pinned: what the tests and the extras need as well."""
    return pinned((ROOT / "requirements-test.lock").read_text())


@pytest.fixture(scope="session", params=["requirements.lock", "requirements-test.lock"])
def lock_text(request: pytest.FixtureRequest) -> str:
    return (ROOT / request.param).read_text()


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
    return table
