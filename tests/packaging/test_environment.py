"""environment.yml: valid entries, the versions of the lock, nothing of the project left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# name, then optionally version constraints (=1.2 fuzzy, ==1.2, >=1,<2): a strict part of conda's grammar.
CONDA = re.compile(r"[a-z0-9][a-z0-9._-]*(?:(?:==|=|>=|<=|<|>)\d[\w.]*(?:,(?:>=|<=|<|>|!=)\d[\w.]*)*)?")


@pytest.fixture(scope="module")
def environment(root: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((root / "environment.yml").read_text())
    return parsed


@pytest.fixture(scope="module")
def pip_entries(environment: dict[str, Any]) -> list[Requirement]:
    (section,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    return [Requirement(text) for text in section]


def test_conda_entries_are_valid(environment: dict[str, Any]) -> None:
    assert environment["name"] == "skiptune"
    entries = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert {"python=3.11", "pip"} <= set(entries)
    assert all(CONDA.fullmatch(entry) for entry in entries)


@pytest.mark.parametrize("wrong", ["scipy=>1", "numpy>=1.26,<", "numpy>= 1.26", "Python=3.11", "torch=="])
def test_grammar_rejects(wrong: str) -> None:
    assert not CONDA.fullmatch(wrong)


def test_versions_are_those_of_the_lock(
    environment: dict[str, Any], pip_entries: list[Requirement], pins: dict[str, str]
) -> None:
    for entry in pip_entries:
        assert str(entry.specifier) == f"=={pins[canonicalize_name(entry.name)]}", entry.name
    for text in environment["dependencies"]:
        name, _, version = text.partition("=") if isinstance(text, str) else ("", "", "")
        if name in pins:
            assert version.lstrip("=") == pins[name], text


def test_whole_project_is_listed(pip_entries: list[Requirement], project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    locked = ("test", "text-to-image", "image-metrics", "slurm")
    wanted = [*project["dependencies"], *(text for extra in locked for text in extras[extra])]
    listed = [canonicalize_name(entry.name) for entry in pip_entries]
    assert sorted(listed) == sorted(canonicalize_name(Requirement(text).name) for text in wanted)
