"""The built package holds every module and the desk weights, and nothing else of the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("skiptune", "experiments")


@pytest.fixture(scope="module")
def wheel_files(root: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Paths inside a wheel built from a copy, so that the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copyfile(root / name, source / name)
    for package in (*PACKAGES, "tests/packaging"):
        shutil.copytree(root / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "-w", str(source / "dist"), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr
    (wheel,) = (source / "dist").glob("skiptune-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_holds_every_module(root: Path, wheel_files: set[str]) -> None:
    modules = {path.relative_to(root).as_posix() for top in PACKAGES for path in root.glob(f"{top}/**/*.py")}
    assert modules and modules <= wheel_files, "a folder without __init__.py is left out"


def test_holds_the_desk_weights(root: Path, wheel_files: set[str]) -> None:
    weights = {path.relative_to(root).as_posix() for path in root.glob("skiptune/checkpoints/desk/*")}
    assert weights and weights <= wheel_files


def test_holds_the_pages_of_the_report(root: Path, wheel_files: set[str]) -> None:
    report = root / "experiments/report"
    pages = {path.relative_to(root).as_posix() for path in report.glob("[ta]*/*")}
    assert len(pages) > 4 and pages <= wheel_files


def test_holds_nothing_else(wheel_files: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel_files} == {*PACKAGES, "skiptune-0.1.0.dist-info"}
