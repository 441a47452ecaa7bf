"""The functions of ``scripts/train.py`` and the configurations that it is given, without Hydra."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from small_training import small

from scripts import train
from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.denoisers import build_denoiser
from skiptune.evaluation.extractors import load_extractor
from skiptune.training.autoencoder import AutoencoderTraining
from skiptune.training.classification import ClassifierTraining
from skiptune.training.settings import DenoiserTraining

ROOT = Path(__file__).resolve().parents[2]
TRAININGS = sorted(path.stem for path in (ROOT / "configs/training").glob("*.yaml"))


@pytest.fixture
def script() -> ModuleType:
    return train


def composed(name: str) -> dict[str, Any]:
    """What the command at the head of configs/training/NAME.yaml is given."""
    text = (ROOT / f"configs/training/{name}.yaml").read_text()
    (command,) = re.findall(r"^# Command: .*?python scripts/train.py (.*)$", text, re.M)
    overrides = re.sub(r" +\(.*\)$| +&& .*$", "", command).split()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        values = OmegaConf.to_container(compose("train", overrides), resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


@pytest.mark.parametrize("name", TRAININGS)
def test_command_of_a_configuration_is_complete(name: str) -> None:
    config = composed(name)
    training, model = config["training"], config["model"]
    kind = training.pop("kind")
    if kind == "classifier":
        assert [ClassifierTraining.desk(each, seed=training["seed"]).name for each in training["names"]]
        return
    if kind == "autoencoder":
        assert AutoencoderTraining(**training).steps > 500
        return
    assert model["name"] == name and (model["kind"] == "desk") == (training["device"] == "cpu")
    assert (config["export"] == "skiptune/checkpoints/desk") == (model["kind"] == "desk")
    settings = DenoiserTraining(name=name, denoiser=model["denoiser"], dataset=model["dataset"], **training)
    assert settings.steps > 1000
    assert settings.learning_rate_at(settings.images // 2) == settings.learning_rate
    with torch.device("cpu" if model["kind"] == "desk" else "meta"):
        build_denoiser(settings.denoiser)


@pytest.mark.parametrize(
    ("dataset", "steps", "parameters"),
    [("cifar10", (600_000, 800_000), 35_746_307), ("celeba", (400_000, 600_000), 78_700_803)],
)
def test_trainings_of_s2dm_are_the_published_ones(
    dataset: str, steps: tuple[int, int], parameters: int
) -> None:
    """S2-DMs, section 4 and Appendix A.1, over the program of ermongroup/ddim."""
    readings = {"tau": 0.99, "weights": "eq13", "alpha": "per_step", "early": "truncate", "factor": "eq12"}
    plain = {"name": "noise_prediction", "antithetic": True, "summed": True}
    expected: dict[str, tuple[int, dict[str, Any]]] = {"ddim1": (steps[0], plain), "ddim2": (steps[1], plain)}
    for skip in (2, 10, 50):
        loss = {**plain, **readings, "name": "skip_step", "skip": skip}
        expected[f"s2dm_skip{skip}"] = (steps[0], loss)
    for name, (count, loss) in expected.items():
        config = composed(f"{name}_{dataset}")
        training, model = config["training"], config["model"]
        settings = DenoiserTraining(
            name=model["name"],
            denoiser=model["denoiser"],
            dataset=model["dataset"],
            **{key: value for key, value in training.items() if key != "kind"},
        )
        assert (settings.steps, settings.batch, settings.loss, settings.seed) == (count, 128, loss, 1234)
        assert (settings.dataset, settings.flip, settings.max_gradient_norm) == (dataset, True, 1.0)
        rates = {settings.learning_rate_at(images) for images in (0, 10**6, settings.images - 128)}
        assert rates == {2e-4} and settings.precision == "fp32"
        assert settings.ema_decay_at(settings.images) == pytest.approx(0.9999, abs=1e-10)
        with torch.device("meta"):
            denoiser = build_denoiser(settings.denoiser)
        assert sum(parameter.numel() for parameter in denoiser.parameters()) == parameters


def test_denoiser_is_exported_with_its_record(script: ModuleType, tmp_path: Path) -> None:
    settings = small()
    training = {"seed": 5, "log_every": 2, "checkpoint_every": 20, "images": 160, "batch": 4, "workers": 1}
    config = {
        "model": {"name": "small", "denoiser": settings.denoiser, "dataset": "digits"},
        "tracker": {"name": "none", "mode": "offline", "project": "", "group": ""},
        "outputs": str(tmp_path / "outputs"),
        "download": False,
        "export": str(tmp_path / "desk"),
    }
    script.train_denoiser(config, training)
    record = json.loads((tmp_path / "desk/small.json").read_text())
    loaded = load_desk_denoiser("small", tmp_path / "desk")
    assert record["sha256"] == loaded.sha256 and record["settings"]["seed"] == 5
    assert DenoiserTraining(**record["settings"]).denoiser == settings.denoiser
    assert record["parameters"] == sum(p.numel() for p in loaded.denoiser.parameters())
    assert len(record["commit"]) >= 40 or record["commit"] == "unknown"
    assert record["duration_seconds"] > 0 and record["packages"]["torch"] and record["device"]
    assert [images for images, _ in record["loss_curve"]] == list(range(8, 161, 8))
    (folder,) = (tmp_path / "outputs/training").iterdir()
    assert folder.name.startswith("small-") and (folder / "checkpoint.safetensors").exists()
    # The same command again has nothing to compute and writes the same weights.
    weights = (tmp_path / "desk/small.safetensors").read_bytes()
    (tmp_path / "desk/small.safetensors").unlink()
    script.train_denoiser(config, training)
    assert (tmp_path / "desk/small.safetensors").read_bytes() == weights


def test_classifiers_are_trained_by_name(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"names": ["digits_cnn"], "seed": 2, "epochs": 1, "images": 600}
    script.train_classifiers({"export": str(tmp_path)}, training)
    record = json.loads((tmp_path / "digits_cnn.json").read_text())
    assert record["seed"] == 2 and load_extractor("digits_cnn", tmp_path).name == "digits_cnn"
    (line,) = capsys.readouterr().out.splitlines()
    assert line == f"wrote digits_cnn: {record['heldout_accuracy']:.1%} of the held-out images right"
