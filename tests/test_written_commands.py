"""Commands that the README and the headers of the configuration write are ones that their scripts take."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from scripts.benchmark import settings_of_subject
from scripts.reproduce import normalised
from scripts.shared.common import settings_of

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "configs").rglob("*.yaml"))]
WRITTEN = re.compile(r"python scripts/(\w+)\.py([^#`\n;&)(]*)")
HYDRA = {"measure", "sample", "reproduce", "train", "tune"}
OTHER = {"status", "report", "dashboard", "verify_golden", "inspect", "paper_check"}


def commands():
    """Script and arguments of every command, each once, with where it is written first."""
    found = {}
    for path in TEXTS:
        for script, rest in WRITTEN.findall(path.read_text()):
            arguments = shlex.split(rest.strip().rstrip('".,}:'))
            found.setdefault((script, *arguments), path.relative_to(ROOT))
    return found


COMMANDS = commands()


def once(argument):
    """An override with the first value of a sweep."""
    override = OverridesParser.create().parse_override(argument)
    if not override.is_sweep_override():
        return argument
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


def test_all_kinds_of_commands_are_found_and_known():
    scripts = {command[0] for command in COMMANDS}
    assert {"measure", "sample", "reproduce", "train", "tune", "evaluate", "benchmark", "download"} <= scripts
    assert scripts <= HYDRA | OTHER | {"evaluate", "benchmark", "download"}
    assert len(COMMANDS) > 150


@pytest.mark.parametrize("script", sorted(HYDRA))
def test_hydra_takes_what_is_written(script):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        for (name, *arguments), path in COMMANDS.items():
            if name != script:
                continue
            overrides = [once(argument) for argument in normalised(arguments) if argument != "-m"]
            # That all tables compose, which takes a second each, is tested elsewhere.
            overrides = [override for override in overrides if not override.startswith("table=")]
            if script == "reproduce":
                if set(overrides) <= {"scale=desk"}:
                    continue
                overrides.append("table=skip_tuning/02")
            try:
                compose(script, overrides, return_hydra_config=True)
            except Exception as error:
                pytest.fail(f"{path}: {script}.py {' '.join(arguments)}: {error}")


def test_programs_without_groups_take_what_is_written():
    for (script, *arguments), _ in COMMANDS.items():
        if script == "evaluate":
            settings_of("evaluate", arguments)
        if script == "benchmark":
            settings_of_subject(arguments)


def test_models_that_are_looked_at_are_known():
    for (script, *arguments), path in COMMANDS.items():
        if script == "inspect" and "--model" in arguments:
            name = arguments[arguments.index("--model") + 1]
            assert (ROOT / f"configs/model/{name}.yaml").is_file(), f"{path}: {name}"


def test_files_that_are_to_be_downloaded_are_known():
    known = {path.stem for path in (ROOT / "configs/checkpoint").glob("*.yaml")} | {"all"}
    for (script, *arguments), path in COMMANDS.items():
        if script == "download":
            names = [argument for argument in arguments if "=" not in argument]
            assert set(names) <= known, f"{path}: {names}"
