"""The functions of ``scripts/train.py`` and the configurations that it is given, without Hydra."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
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


def configuration(group: str, name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "configs" / group / f"{name}.yaml").read_text())


@pytest.fixture
def script() -> ModuleType:
    return train


@pytest.mark.parametrize("name", TRAININGS)
def test_configuration_is_complete(name: str) -> None:
    training = configuration("training", name)
    kind = training.pop("kind")
    if kind == "classifier":
        assert [ClassifierTraining.desk(each, seed=training["seed"]).name for each in training["names"]]
        return
    if kind == "autoencoder":
        assert AutoencoderTraining(**training).steps > 500
        return
    model = configuration("model", name)
    assert model["name"] == name and (model["kind"] == "desk") == (training["device"] == "cpu")
    for default in training.pop("defaults", []):
        if default != "_self_":
            training["loss"]["teacher"] = configuration("model", default["/model@loss.teacher"])
    settings = DenoiserTraining(name=name, denoiser=model["denoiser"], dataset=model["dataset"], **training)
    assert settings.steps > 1000
    assert settings.learning_rate_at(settings.images // 2) == settings.learning_rate
    with torch.device("cpu" if model["kind"] == "desk" else "meta"):
        build_denoiser(settings.denoiser)


def test_denoiser_is_exported_with_its_record(script: ModuleType, tmp_path: Path) -> None:
    settings = small()
    training = {"seed": 5, "log_every": 2, "checkpoint_every": 20, "images": 160, "batch": 4, "workers": 1}
    config = {
        "model": {"name": "small", "denoiser": settings.denoiser, "dataset": "digits"},
        "tracker": {"name": "none", "mode": "offline", "project": "", "group": ""},
        "outputs": str(tmp_path / "outputs"),
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
