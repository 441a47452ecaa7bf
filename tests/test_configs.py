"""The configuration tree and what it repeats from the code and from training records must agree."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from experiments.config_files import choice
from skiptune.checkpoints.desk import DESK_FOLDER, load_coefficients, load_desk_denoiser
from skiptune.evaluation.evaluation import Evaluation
from skiptune.interventions.build import INTERVENTIONS
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


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_an_intervention_config_holds_the_defaults_of_the_code(name):
    assert read(f"intervention/{name}.yaml") == {"name": name, **INTERVENTIONS[name].defaults}


def test_settings_of_an_evaluation_are_those_of_the_code():
    defaults = {each.name: each.default for each in dataclasses.fields(Evaluation)}
    plain = {name: list(x) if isinstance(x, tuple) else x for name, x in defaults.items()}
    assert read("evaluate.yaml") == {name: str(x) if isinstance(x, Path) else x for name, x in plain.items()}


@pytest.mark.parametrize("path", sorted((CONFIGS / "sampler").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sampler_config_has_the_defaults_of_the_code_and_names_what_it_leaves_out(path):
    settings = yaml.safe_load(path.read_text())
    defaults = {"name": settings["name"], **known_settings(settings["name"]), "steps": settings["steps"]}
    own = {"sigma_max": 5.0} if path.stem == "diff_instruct" else {}  # a preset of the consistency sampler
    assert settings == {key: defaults[key] for key in settings} | own
    left_out = set(defaults) - set(settings)
    assert left_out == set(re.findall(r"\+sampler\.(\w+)=", path.read_text()))


def training_of(name):
    """The training of a denoiser: its own, or that of the longer run which left it as a snapshot."""
    for path in sorted((CONFIGS / "training").glob("*.yaml")):
        training = yaml.safe_load(path.read_text())
        snapshots = {one["name"]: one["images"] for one in training.pop("snapshots", [])}
        if path.stem == name:
            return training
        if name in snapshots:
            return {**training, "images": snapshots[name]}
    raise AssertionError(f"no training makes {name}")


@pytest.mark.parametrize("name", ["rho_free_glyphs", "rho_sigmoid_glyphs"])
def test_shipped_coefficients_were_learned_as_the_config_says(name):
    model, training = choice("model", "edm_glyphs"), read(f"training/{name}.yaml")
    assert training.pop("kind") == "skip_coefficients" and training.pop("name") == name
    record = json.loads((DESK_FOLDER / f"{name}.json").read_text())
    described = {"name": name, "denoiser": model["denoiser"], "dataset": model["dataset"], **training}
    assert DenoiserTraining(**record["settings"]) == DenoiserTraining(**described)
    found = load_coefficients(name)
    assert list(found.rho) == record["rho"] and found.model_sha256 == load_desk_denoiser("edm_glyphs").sha256


@pytest.mark.parametrize("name", DENOISERS)
def test_a_shipped_denoiser_was_trained_as_the_config_says(name):
    """But for the device: a GPU takes the same images, times and noise."""
    record = json.loads((DESK_FOLDER / f"{name}.json").read_text())["settings"]
    model, training = choice("model", name), training_of(name)
    assert training.pop("kind") == "denoiser"
    record["loss"].setdefault("name", "edm")  # records from before losses had names
    described = {"name": name, "denoiser": model["denoiser"], "dataset": model["dataset"], **training}
    assert DenoiserTraining(**{**record, "device": training["device"]}) == DenoiserTraining(**described)
