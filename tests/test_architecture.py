"""The arrows between the layers, the size of files, and configurations that compose and say what they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
LONGEST = 350
PROGRAMS = {  # the groups that can be chosen in each program's configuration
    "measure": ("model", "sampler", "intervention", "features", "tracker", "launcher"),
    "sample": ("model", "sampler", "intervention", "launcher"),
    "tune": ("model", "sampler", "intervention", "features", "tracker", "launcher"),
    "reproduce": ("table", "scale", "tracker", "launcher"),
    "train": ("training", "model", "tracker", "launcher"),
    "download": ("checkpoint",),
}
# What a reader of a configuration wants to know before the first key.
HEAD = ("what", "expected", "hardware", "time", "command")


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(folder: str, forbidden: str) -> list[str]:
    pattern = re.compile(forbidden)
    return [f"{p.relative_to(ROOT)}: {n}" for p in sources(folder) for n in imported(p) if pattern.match(n)]


def test_library_knows_neither_experiments_nor_hydra() -> None:
    assert offenders("skiptune", r"(experiments|scripts|common|hydra|omegaconf)\b") == []


def test_experiments_know_neither_scripts_nor_hydra() -> None:
    assert offenders("experiments", r"(scripts|common|hydra|omegaconf)\b") == []


def test_denoisers_use_nothing_of_ours() -> None:
    assert offenders("skiptune/denoisers", r"skiptune\.(?!denoisers\b|errors\b)") == []


@pytest.mark.parametrize("layer", ["samplers", "interventions", "importance", "data"])
def test_lower_layers_do_not_look_up(layer: str) -> None:
    assert offenders(f"skiptune/{layer}", r"skiptune\.(runtime|evaluation|training|checkpoints)\b") == []


@pytest.mark.parametrize("folder", ["skiptune", "experiments", "scripts", "hydra_plugins"])
def test_files_are_short(folder: str) -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources(folder)}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONFIGS)))
def test_configuration_begins_with_what_a_reader_needs(path: Path) -> None:
    lines = path.read_text().splitlines()
    head = [line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]]
    missing = [word for word in HEAD if not re.search(rf"\b{word}\b", " ".join(head), re.I)]
    assert head and not missing, f"{path}: the comment at its top lacks {missing}"


def options(group: str) -> list[str]:
    folder = CONFIGS / group
    found = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))
    assert found, f"{folder} has no options"
    return found


def test_tables_need_no_composition() -> None:
    """Read without Hydra, which takes seconds for each, as in tests/experiments, they mean the same."""
    for option in options("table"):
        text = (CONFIGS / "table" / f"{option}.yaml").read_text()
        assert "defaults" not in yaml.safe_load(text) and "${" not in text and "@package" not in text, option


def choices(program: str) -> list[str]:
    """Every option of the groups that no program before this one has, and one option of its others."""
    before = [group for other in list(PROGRAMS)[: list(PROGRAMS).index(program)] for group in PROGRAMS[other]]
    some = {"table": ["skip_tuning/02"], "model": ["edm_glyphs"]}
    chosen = []
    for group in PROGRAMS[program]:
        one = some.get(group, options(group)[:1])
        chosen += [f"{group}={name}" for name in (one if group in ("table", *before) else options(group))]
    return chosen


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_of_every_group_composes(program: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for choice in choices(program):
            composed = compose(program, [choice])
            assert OmegaConf.to_container(composed, resolve=True, throw_on_missing=True), choice


def test_every_group_belongs_to_a_program() -> None:
    groups = {path.name for path in CONFIGS.iterdir() if path.is_dir() and list(path.rglob("*.yaml"))}
    # Settings of the launchers; every probe is in the program's own defaults; benchmarks need no groups.
    groups -= {"hydra", "probe", "benchmark"}
    assert groups == {group for chosen in PROGRAMS.values() for group in chosen}
