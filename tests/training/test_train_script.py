"""The functions of ``scripts/train.py`` and the configurations that it is given, without Hydra."""

from __future__ import annotations

import hashlib
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
from scripts.shared.exports import check_replaced
from skiptune.checkpoints.desk import (
    DESK_FOLDER,
    load_coefficients,
    load_desk_denoiser,
    save_desk_denoiser,
)
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import load_extractor
from skiptune.training.autoencoder import AutoencoderTraining
from skiptune.training.classification import ClassifierTraining
from skiptune.training.contrastive import ContrastiveTraining
from skiptune.training.objectives.inputs import inputs_of
from skiptune.training.settings import DenoiserTraining

ROOT = Path(__file__).resolve().parents[2]
TRAININGS = sorted(path.stem for path in (ROOT / "configs/training").glob("*.yaml"))
NO_TRACKER = {"name": "none", "mode": "offline", "project": "", "group": ""}


@pytest.fixture
def script() -> ModuleType:
    return train


def composed(*overrides: str) -> dict[str, Any]:
    """What the command with these arguments is given."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        given = compose("train", list(overrides))
        values = OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    return values  # type: ignore[return-value]


def of_command(name: str) -> dict[str, Any]:
    """What the command at the head of configs/training/NAME.yaml is given."""
    text = (ROOT / f"configs/training/{name}.yaml").read_text()
    (command,) = re.findall(r"^# Command: .*?python scripts/train.py (.*)$", text, re.M)
    return composed(*re.sub(r" +\(.*\)$| +&& .*$", "", command).split())


def configuration(group: str, name: str) -> dict[str, Any]:
    values = composed(f"+{group}@it={name}")["it"]
    assert isinstance(values, dict)
    return values


def config_of(model: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What a command for this model is given, without its training; all it writes is below ``folder``."""
    places = {"outputs": str(folder / "outputs"), "export": str(folder / "desk")}
    return {
        "model": model,
        "tracker": NO_TRACKER,
        "download": False,
        "loaders": 0,
        "suffix": "",
        "replace": False,
        **places,
    }


@pytest.mark.parametrize("name", TRAININGS)
def test_command_of_a_configuration_is_complete(name: str) -> None:
    config = of_command(name)
    training, model = config["training"], config["model"]
    kind = training.pop("kind")
    if kind == "classifier":
        check_replaced(
            config, *(ClassifierTraining.desk(each, seed=training["seed"]) for each in training["names"])
        )
        return
    if kind in ("autoencoder", "contrastive"):
        of_kind = (AutoencoderTraining if kind == "autoencoder" else ContrastiveTraining)(**training)
        assert of_kind.steps > 500
        check_replaced(config, of_kind)
        return
    for snapshot in training.pop("snapshots", []):
        assert configuration("model", snapshot["name"])["name"] == snapshot["name"]
        assert snapshot["images"] % (training["batch"] * training["checkpoint_every"]) == 0
        assert snapshot["images"] < training["images"] and training["decay_images"] == 0
    made, steps = model["name"], 700
    if kind == "skip_coefficients":
        teacher = training["loss"]["teacher"]
        assert model["name"] == (teacher if isinstance(teacher, str) else teacher["name"])
        made, steps = training.pop("name"), 500
    assert made == name and training["images"] // training["batch"] >= steps
    assert (model["kind"] == "desk") == (training["device"] == "cpu")
    assert (config["export"] == "skiptune/checkpoints/desk") == (model["kind"] == "desk")
    settings = DenoiserTraining(name=name, denoiser=model["denoiser"], dataset=model["dataset"], **training)
    check_replaced(config, settings)  # trained again it is what is shipped, which is replaced unasked
    highest = settings.learning_rate_at(settings.images - max(settings.decay_images, settings.batch))
    assert highest == settings.learning_rate  # it has risen before it falls
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
        config = of_command(f"{name}_{dataset}")
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
    config = config_of({"name": "small", "denoiser": settings.denoiser, "dataset": "digits"}, tmp_path)
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


def test_snapshots_are_models_of_their_own(script: ModuleType, tmp_path: Path) -> None:
    settings = small()
    common = {"log_every": 2, "checkpoint_every": 4, "batch": 4, "workers": 1, "decay_images": 0}
    config = config_of({"name": "long", "denoiser": settings.denoiser, "dataset": "digits"}, tmp_path)
    snapshots = [{"images": 16, "name": "short"}]
    script.train_denoiser(config, {**common, "images": 48, "snapshots": snapshots})
    short = json.loads((tmp_path / "desk/short.json").read_text())
    assert short["settings"]["name"] == "short" and short["settings"]["images"] == 16
    assert [images for images, _ in short["loss_curve"]] == [8, 16]
    # A run with the settings of its record gives the same weights.
    alone = {**config, "model": {**config["model"], "name": "short"}, "export": str(tmp_path / "alone")}
    script.train_denoiser(alone, {**common, "images": 16})
    weights = [(tmp_path / folder / "short.safetensors").read_bytes() for folder in ("desk", "alone")]
    assert weights[0] == weights[1] != (tmp_path / "desk/long.safetensors").read_bytes()

    for wrong, message in (
        ({"snapshots": [{"images": 12, "name": "x"}]}, "no checkpoint at the snapshot of 12 images"),
        ({"snapshots": snapshots, "decay_images": 40}, "learning rate decays before the snapshot of 16"),
    ):
        with pytest.raises(SkiptuneError, match=message):
            script.train_denoiser(config, {**common, "images": 48, **wrong})


def test_a_snapshot_that_was_passed_is_never_missed_in_silence(script: ModuleType, tmp_path: Path) -> None:
    """A run resumed with other snapshots, or to another folder, says what is no longer to be had."""
    config = config_of({"name": "long", "denoiser": small().denoiser, "dataset": "digits"}, tmp_path)
    short, shorter = ({"images": images, "name": f"after_{images}"} for images in (32, 16))
    training = {
        "log_every": 2,
        "checkpoint_every": 4,
        "batch": 4,
        "workers": 1,
        "decay_images": 0,
        "images": 48,
    }

    def train(export: str = "desk", *snapshots: dict[str, Any]) -> None:
        script.train_denoiser(
            {**config, "export": str(tmp_path / export)}, {**training, "snapshots": list(snapshots)}
        )

    train("desk", short)
    train("desk", short)  # nothing to compute, nothing missing
    for export, snapshots, name in (
        ("desk", (short, shorter), "desk/after_16"),
        ("other", (short,), "other/after_32"),
        ("desk", ({**shorter, "name": "after_32"},), "desk/after_32"),  # that is of other images
    ):
        line = f"past the snapshot of .. images, and .*{name}.safetensors is not what it left: export"
        with pytest.raises(SkiptuneError, match=line) as caught:
            train(export, *snapshots)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "other").exists()
    (folder,) = (tmp_path / "outputs/training").iterdir()
    (folder / "checkpoint.safetensors").unlink()  # from the beginning they are all on the way
    train("other", short, shorter)
    assert {path.stem for path in (tmp_path / "other").glob("*.json")} == {"after_16", "after_32", "long"}


def test_weights_of_other_settings_are_replaced_only_when_told(script: ModuleType, tmp_path: Path) -> None:
    """Asked before the training, of what it exports in the end and of the snapshots on its way."""
    config = config_of({"name": "end", "denoiser": small().denoiser, "dataset": "digits"}, tmp_path)
    same = {"images": 32, "batch": 4, "workers": 1, "decay_images": 0, "log_every": 2, "checkpoint_every": 4}
    snapshots = [{"images": 16, "name": "half"}]
    script.train_denoiser(config, {**same, "snapshots": snapshots})
    before = {path: path.read_bytes() for path in (tmp_path / "desk").iterdir()}
    outputs = sorted((tmp_path / "outputs/training").iterdir())
    for change, line in (
        ({"seed": 1, "flip": True}, r"end.safetensors would be replaced, .* other settings \(flip, seed\)"),
        ({"images": 16}, r"end.safetensors would be .*\(images\): give export=FOLDER .* or replace=true$"),
        ({"images": 48, "snapshots": snapshots}, r"end.safetensors .*\(images\)"),
    ):
        with pytest.raises(SkiptuneError, match=line):
            script.train_denoiser(config, {**same, **change})
    other = {**config, "model": {**config["model"], "name": "other"}}
    with pytest.raises(SkiptuneError, match=r"half.safetensors would be replaced, .*\(learning_rate\)"):
        script.train_denoiser(other, {**same, "snapshots": snapshots, "learning_rate": 0.1})
    assert {path: path.read_bytes() for path in (tmp_path / "desk").iterdir()} == before
    assert sorted((tmp_path / "outputs/training").iterdir()) == outputs  # nothing was begun

    script.train_denoiser(config, {**same, "snapshots": snapshots})  # equal settings: unasked
    old = json.loads((tmp_path / "desk/end.json").read_text())
    for name in ("flip", "max_gradient_norm"):  # a record of before these were settings
        del old["settings"][name]
    (tmp_path / "desk/end.json").write_text(json.dumps(old))
    script.train_denoiser(config, {**same, "snapshots": snapshots})
    script.train_denoiser({**config, "replace": True}, {**same, "seed": 1})
    assert json.loads((tmp_path / "desk/end.json").read_text())["settings"]["seed"] == 1
    (tmp_path / "desk/end.json").unlink()
    with pytest.raises(SkiptuneError, match="it has no record"):
        script.train_denoiser(config, same)


@pytest.mark.parametrize(
    ("training", "line"),
    [
        ({"images": "abc"}, "images is 'abc', it must be a whole number"),
        ({"images": 2e6}, "images is 2000000.0, it must be a whole number"),
        ({"batch": True}, "batch is True, it must be a whole number"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', it must be a number"),
        ({"max_gradient_norm": "x"}, "max_gradient_norm is 'x', it must be a number or null"),
        ({"flip": 1}, "flip is 1, it must be true or false"),
        ({"loss": 5}, "loss is 5, it must be a mapping"),
        ({"loss": {"name": "edm", "p_mean": "x"}}, "p_mean is 'x', it must be a number"),
        ({"loss": {"name": "diff_instruct", "p_std": "x"}}, "p_std is 'x', it must be a number"),
        ({"lerning_rate": 1.0}, "no setting training.lerning_rate, did you mean learning_rate?"),
        ({"foo": 1}, "no setting training.foo; settings: images, batch, "),
        ({"denoiser": {}}, "no setting training.denoiser"),
        ({"snapshots": [{"images": 8}]}, "snapshots has {'images': 8}; it must be a list of {images, name}"),
    ],
)
def test_a_wrong_setting_is_one_line(
    script: ModuleType, tmp_path: Path, training: dict[str, Any], line: str
) -> None:
    config = config_of({"name": "small", "denoiser": small().denoiser, "dataset": "digits"}, tmp_path)
    with pytest.raises(SkiptuneError, match=re.escape(line)):
        script.train_denoiser(config, {"images": 128, **training})
    with pytest.raises(SkiptuneError, match="training.images is missing"):
        script.train_denoiser(config, {})


def test_weights_that_a_training_begins_with_are_part_of_its_name_and_record(
    script: ModuleType, tmp_path: Path
) -> None:
    """Another teacher of the same name starts a run of its own, which does not return the old one."""
    checkpoints = tmp_path / "checkpoints"
    teacher = {"name": "old", "kind": "trained", "file": "old.safetensors", "denoiser": small(0.0).denoiser}
    loss = {
        "name": "feature_denoising", "teacher": teacher, "features": "digits_cnn",
        "checkpoints": str(checkpoints),
    }  # fmt: skip
    config = config_of({"name": "tuned", "denoiser": teacher["denoiser"], "dataset": "digits"}, tmp_path)
    training = {"images": 8, "batch": 4, "workers": 1, "warmup_images": 0, "decay_images": 0, "loss": loss}
    records, weights = [], []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = build_denoiser(teacher["denoiser"]).state_dict()
        save_desk_denoiser("old", teacher["denoiser"], state, {}, checkpoints)
        script.train_denoiser(config, training)
        records.append(json.loads((tmp_path / "desk/tuned.json").read_text()))
        weights.append((tmp_path / "desk/tuned.safetensors").read_bytes())
        assert records[-1]["inputs"] == {
            "teacher": load_desk_denoiser("old", checkpoints).sha256,
            "features": load_extractor("digits_cnn").digest,
        }
    assert weights[0] != weights[1] and records[0]["settings"] == records[1]["settings"]
    assert len(list((tmp_path / "outputs/training").iterdir())) == 2


def test_weights_are_found_by_name_and_by_configuration(tmp_path: Path) -> None:
    assert inputs_of({"name": "edm"}) == {}
    digits = load_desk_denoiser("edm_digits_uncond").sha256
    shipped = {"teacher": digits, "features": load_extractor("digits_vit").digest}
    by_name = {"teacher": "edm_digits_uncond", "features": "digits_vit"}
    by_configuration = {
        "teacher": configuration("model", "edm_digits_uncond"),
        "features": configuration("features", "digits_vit"),
    }
    assert inputs_of(by_name) == inputs_of(by_configuration) == shipped
    file = (DESK_FOLDER / "autoencoder_glyphs.safetensors").read_bytes()
    of_latents = {"name": "noise_prediction", "autoencoder": "autoencoder_glyphs"}
    assert inputs_of(of_latents) == {"autoencoder": hashlib.sha256(file).hexdigest()}
    for key in ("teacher", "autoencoder"):
        with pytest.raises(SkiptuneError, match="no desk model 'nobody'"):
            inputs_of({key: "nobody"})
    elsewhere = {"teacher": configuration("model", "edm_imagenet64"), "checkpoints": str(tmp_path)}
    with pytest.raises(SkiptuneError, match="cond-adm.pkl of model edm_imagenet64 is missing"):
        inputs_of(elsewhere)


def test_coefficients_are_exported_with_their_record(script: ModuleType, tmp_path: Path) -> None:
    config = config_of(configuration("model", "edm_digits_uncond"), tmp_path)
    loss = {
        "name": "skip_coefficients", "teacher": "edm_digits_uncond", "features": "digits_resnet",
        "bounded": True, "start": 0.9,
    }  # fmt: skip
    training = {"name": "rho_digits", "images": 16, "batch": 4, "workers": 1, "learning_rate": 0.1}
    script.train_skip_coefficients(config, {**training, "loss": loss, "warmup_images": 0, "decay_images": 0})
    record = json.loads((tmp_path / "desk/rho_digits.json").read_text())
    found = load_coefficients("rho_digits", tmp_path / "desk")
    assert record["sha256"] == found.sha256 and list(found.rho) == record["rho"] and len(found.rho) == 6
    assert all(0 < rho < 1 and rho != 0.9 for rho in found.rho)
    assert found.model_sha256 == load_desk_denoiser("edm_digits_uncond").sha256
    assert record["parameters"] == 6 and record["settings"]["loss"] == loss
    assert record["inputs"]["teacher"] == found.model_sha256
    (tmp_path / "desk/rho_digits.safetensors").write_bytes(b"damaged")
    with pytest.raises(SkiptuneError, match="has not the sha256 of its record"):
        load_coefficients("rho_digits", tmp_path / "desk")


def test_coefficients_are_of_the_model_that_they_are_learned_on(script: ModuleType, tmp_path: Path) -> None:
    config = config_of(configuration("model", "edm_glyphs_hybrid_8k"), tmp_path)
    training = configuration("training", "rho_free_glyphs")
    assert training.pop("kind") == "skip_coefficients"
    line = "rho_free_glyphs is learned on edm_glyphs, not on edm_glyphs_hybrid_8k; give model=edm_glyphs$"
    for teacher in ("edm_glyphs", configuration("model", "edm_glyphs")):
        loss = {**training["loss"], "teacher": teacher}
        with pytest.raises(SkiptuneError, match=line):
            script.train_skip_coefficients(config, {**training, "loss": loss})
    assert not list(tmp_path.iterdir())


def test_classifiers_are_trained_by_name(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"names": ["digits_cnn"], "seed": 2, "epochs": 1, "images": 600}
    script.train_classifiers({"export": str(tmp_path), "replace": False}, training)
    record = json.loads((tmp_path / "digits_cnn.json").read_text())
    assert record["seed"] == 2 and load_extractor("digits_cnn", tmp_path).name == "digits_cnn"
    (line,) = capsys.readouterr().out.splitlines()
    assert line == f"wrote digits_cnn: {record['heldout_accuracy']:.1%} of the held-out images right"
