"""The configuration tree and what it repeats from the code and from training records must agree."""

import json
from pathlib import Path

import pytest
import yaml

from skiptune.checkpoints.desk import DESK_FOLDER
from skiptune.interventions.build import SETTINGS
from skiptune.samplers import known_settings
from skiptune.training.settings import DenoiserTraining

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
DENOISERS = sorted(
    path.stem for path in DESK_FOLDER.glob("*.json") if "_" in path.stem and path.stem[:3] == "edm"
)


def read(path):
    return yaml.safe_load((CONFIGS / path).read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_config_says_what_it_is_expects_needs_and_how_to_run_it(path):
    lines = path.read_text().splitlines()
    header = " ".join(line for line in lines[: next(i for i, x in enumerate(lines) if not x.startswith("#"))])
    for word in ("What", "Expected", "ardware", "ime", "Command"):
        assert word in header, f"{path.name} does not say: {word}"


@pytest.mark.parametrize("name", SETTINGS)
def test_an_intervention_config_holds_the_defaults_of_the_code(name):
    assert read(f"intervention/{name}.yaml") == {"name": name, **SETTINGS[name]}


@pytest.mark.parametrize("path", sorted((CONFIGS / "sampler").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sampler_config_names_known_settings_only(path):
    settings = yaml.safe_load(path.read_text())
    assert set(settings) - {"name"} <= set(known_settings(settings["name"]))


@pytest.mark.parametrize("name", DENOISERS)
def test_a_shipped_denoiser_was_trained_as_the_config_says(name):
    record = json.loads((DESK_FOLDER / f"{name}.json").read_text())["settings"]
    model, training = read(f"model/{name}.yaml"), read(f"training/{name}.yaml")
    assert training.pop("kind") == "denoiser"
    record["loss"].setdefault("name", "edm")  # records from before losses had names
    described = {"name": name, "denoiser": model["denoiser"], "dataset": model["dataset"], **training}
    assert DenoiserTraining(**record) == DenoiserTraining(**described)
