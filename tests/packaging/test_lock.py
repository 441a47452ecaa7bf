"""The lock: complete, hashed, the same on every machine, and within what pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENTRY = re.compile(
    r"[a-z0-9][a-z0-9.-]*==[^\s;]+(?: ; (?P<marker>[^\\]+))? \\\n"
    r"(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+"
    r"(?:    #.*\n)*"
)
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_python_implementation": "CPython"}


def requirements(project: dict[str, Any], extra: str | None = None) -> list[Requirement]:
    texts = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


LOCKED_EXTRAS = ("test", "text-to-image", "image-metrics", "slurm")


def test_pins_satisfy_the_project(
    project: dict[str, Any], pins: dict[str, str], demo_pins: dict[str, str]
) -> None:
    extras = [wanted for extra in LOCKED_EXTRAS for wanted in requirements(project, extra)]
    for lock, listed in ((demo_pins, requirements(project)), (pins, requirements(project) + extras)):
        for wanted in listed:
            version = lock.get(canonicalize_name(wanted.name))
            assert version is not None, f"{wanted.name} is not in the lock: make lock"
            assert wanted.specifier.contains(version), f"{wanted.name} {version} is locked, wanted {wanted}"


def test_both_locks_agree(pins: dict[str, str], demo_pins: dict[str, str]) -> None:
    assert demo_pins.items() <= pins.items()


def test_demo_stack_is_slim(project: dict[str, Any], demo_pins: dict[str, str]) -> None:
    for extra in ("text-to-image", "image-metrics", "slurm"):
        assert not {canonicalize_name(r.name) for r in requirements(project, extra)} & demo_pins.keys()


def test_every_entry_is_pinned_hashed_and_applies_to_each_python(lock_text: str) -> None:
    header, body = re.match(r"((?:#.*\n)+)(.*)", lock_text, re.S).groups()  # type: ignore[union-attr]
    assert "uv pip compile" in header and "--generate-hashes" in header and "pyproject.toml" in header
    assert ENTRY.sub("", body) == ""
    for entry in ENTRY.finditer(body):
        if entry["marker"] is not None and "win32" not in entry["marker"]:
            for minor in (11, 12, 13, 14):
                python = {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.1"}
                assert Marker(entry["marker"]).evaluate(LINUX | python), entry[0].splitlines()[0]


def test_names_no_host_and_no_path(lock_text: str) -> None:
    assert "://" not in lock_text and "@ " not in lock_text
    assert not re.search(r"--(?:extra-)?index|--find-links|--trusted-host|--config", lock_text)
    assert not re.search(r"(?:^|[\s=\"'])(?:/|~|[A-Za-z]:\\)\S", lock_text), "a machine path"


def test_can_build_this_package(demo_pins: dict[str, str], root: Path) -> None:
    wanted = Requirement(tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"][0])
    assert wanted.specifier.contains(demo_pins[wanted.name])


@pytest.mark.parametrize("name", ["pillow", "matplotlib"])
def test_rasteriser_is_the_pinned_one(name: str, pins: dict[str, str]) -> None:
    """The glyph images depend on these two; data checksums are only promised for the pinned versions."""
    if metadata.version("torch").split("+")[0] != pins["torch"]:
        pytest.skip("not the locked environment")
    assert metadata.version(name) == pins[name]
