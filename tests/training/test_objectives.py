"""Distillation in the loop, from a shipped teacher: it resumes to the same bits and exports a denoiser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from test_loop import Stop, assert_same, stop_after

from skiptune.checkpoints.desk import DESK_FOLDER, desk_digest, load_desk_denoiser
from skiptune.data.images import to_uint8
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import load_extractor
from skiptune.training.loop import train
from skiptune.training.objectives import new_weights
from skiptune.training.objectives.inputs import inputs_of
from skiptune.training.objectives.teacher import begin_as
from skiptune.training.settings import DenoiserTraining

TEACHER = "edm_digits_uncond"
NAMES = ("consistency_distillation", "diff_instruct")


def distillation(name: str, **changes: Any) -> DenoiserTraining:
    """4 steps, a checkpoint after every second."""
    kwargs = load_desk_denoiser(TEACHER).description["kwargs"]
    student = "ConsistencyPrecond" if name == NAMES[0] else "EDMPrecond"
    values: dict[str, Any] = {
        "denoiser": {"class": student, "kwargs": kwargs}, "dataset": "digits", "images": 8, "batch": 2,
        "learning_rate": 1e-3, "warmup_images": 0, "decay_images": 0, "ema_halflife": 4, "workers": 1,
        "checkpoint_every": 2, "log_every": 1, "loss": {"name": name, "teacher": TEACHER},
    }  # fmt: skip
    return DenoiserTraining(name="student", **(values | changes))


@pytest.mark.parametrize("name", NAMES)
def test_stopped_distillation_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = train(distillation(name), tmp_path / "whole")
    with pytest.raises(Stop):
        train(distillation(name), tmp_path / "parts", stop_after(6))  # its checkpoint is of step 2
    assert_same(train(distillation(name), tmp_path / "parts"), whole)
    first, second = (load_file(tmp_path / part / "checkpoint.safetensors") for part in ("whole", "parts"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)

    build_denoiser(distillation(name).denoiser).load_state_dict({**whole.weights, **whole.average})
    teacher = load_desk_denoiser(TEACHER).denoiser.state_dict()
    assert all(not torch.equal(value, teacher[key]) for key, value in whole.average.items())


def test_averaged_target_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    whole = train(distillation(NAMES[0]), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    tensors = load_file(path)
    targets = {key: value for key, value in tensors.items() if key.startswith("kept/")}
    assert len(targets) == len(whole.average)
    assert any(not torch.equal(targets[f"kept/{key}"], whole.weights[key]) for key in whole.average)
    save_file(
        {key: value for key, value in tensors.items() if key not in targets},
        path,
        {"step": "2", "seconds": "1", "recent": "[]"},
    )
    with pytest.raises(
        SkiptuneError, match="it is the checkpoint of another network; delete the file|another"
    ):
        train(distillation(NAMES[0]), tmp_path)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"name": "diff_destruct"}, "unknown loss 'diff_destruct': choose one of edm, .*diff_instruct"),
        ({"name": "diff_instruct"}, "loss diff_instruct needs a teacher: the name of a desk model"),
        ({"name": "diff_instruct", "teacher": TEACHER, "p_meen": 0}, "does not fit: .*p_meen"),
        ({"name": "diff_instruct", "teacher": 5}, "teacher is 5: give the name of a desk model"),
        ({"name": "diff_instruct", "teacher": TEACHER, "initial": TEACHER}, "diff_instruct takes no initial"),
        ({"name": "edm", "initial": None}, "initial is None: give the name of a desk model"),
        ({"name": "edm", "initial": TEACHER, "p_meen": 0}, "does not fit: .*p_meen"),
    ],
)
def test_descriptions_that_do_not_fit(loss: dict[str, Any], message: str) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        distillation("diff_instruct", loss=loss)
    assert "\n" not in str(caught.value)


def test_teachers_that_are_not_there(tmp_path: Path) -> None:
    missing = distillation("diff_instruct", loss={"name": "diff_instruct", "teacher": "edm_nothing"})
    with pytest.raises(SkiptuneError, match="no desk model 'edm_nothing'"):
        train(missing, tmp_path)
    model = {"name": "edm_big", "kind": "official", "file": "big.pkl", "denoiser": missing.denoiser}
    loss = {"name": "diff_instruct", "teacher": model, "checkpoints": str(tmp_path)}
    with pytest.raises(SkiptuneError, match="checkpoint .*big.pkl of model edm_big is missing"):
        train(distillation("diff_instruct", loss=loss), tmp_path / "run")


def continued(**changes: Any) -> DenoiserTraining:
    denoiser = load_desk_denoiser(TEACHER).description
    loss = {"name": "edm", "initial": TEACHER}
    return distillation(NAMES[1], **({"denoiser": denoiser, "loss": loss} | changes))


def test_training_goes_on_with_the_weights_it_names(tmp_path: Path) -> None:
    kept = train(continued(learning_rate=0.0), tmp_path / "kept")
    start = load_desk_denoiser(TEACHER).denoiser.state_dict()
    assert all(torch.equal(kept.average[key], start[key]) for key in kept.average)
    assert inputs_of(continued().loss) == {"initial": desk_digest(TEACHER)}

    anew = train(continued(learning_rate=0.0, loss={"name": "edm"}), tmp_path / "anew")
    assert kept.curve[0]["loss"] < 0.5 * anew.curve[0]["loss"]  # equal images, levels and noise


def test_start_of_another_network(tmp_path: Path) -> None:
    other = load_desk_denoiser("edm_glyphs").description
    with pytest.raises(SkiptuneError, match="differs from the one it begins as in "):
        train(continued(denoiser=other, dataset="glyphs"), tmp_path)


def test_layers_that_the_start_lacks_are_new(tmp_path: Path) -> None:
    """Attention at 8 pixels is added to a network that has it at 4 only; what it had is kept."""
    start = load_desk_denoiser(TEACHER)
    kwargs = start.description["kwargs"] | {"attn_resolutions": [8, 4]}
    grown = {**start.description, "kwargs": kwargs}
    kept = train(continued(denoiser=grown, learning_rate=0.0), tmp_path / "grown").average
    old = start.denoiser.state_dict()
    assert all(torch.equal(kept[key], old[key]) for key in kept if key in old)
    new = new_weights(continued(denoiser=grown).loss, build_denoiser(grown))
    assert set(new) == kept.keys() - old.keys() and {key.split(".")[-2] for key in new} == {
        "norm2",
        "qkv",
        "proj",
    }
    for student, teacher, may_grow in (
        (start.denoiser, build_denoiser(grown), True),  # loses layers
        (build_denoiser(grown), start.denoiser, False),  # as the students of the distillations
    ):
        with pytest.raises(SkiptuneError, match="differs from the one it begins as in .*(norm2|proj|qkv)"):
            begin_as(student, teacher, may_grow=may_grow)


def configuration(path: str) -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parents[2] / "configs" / f"{path}.yaml").read_text())


@pytest.mark.parametrize("name", ["cd_glyphs", "di_glyphs"])
def test_shipped_student_was_trained_as_its_config_says_and_draws_the_letters_it_is_asked_for(
    name: str,
) -> None:
    model, training = configuration(f"model/{name}"), configuration(f"training/{name}")
    sampler = configuration("sampler/" + {"cd_glyphs": "consistency", "di_glyphs": "diff_instruct"}[name])
    assert training.pop("kind") == "denoiser" and training["loss"]["teacher"] == "edm_glyphs"
    described = {"name": name, "denoiser": model["denoiser"], "dataset": model["dataset"], **training}
    record = json.loads((DESK_FOLDER / f"{name}.json").read_text())["settings"]
    assert DenoiserTraining(**record) == DenoiserTraining(**described)
    assert sampler["sigma_max"] == training["loss"].get("init_sigma", training["loss"].get("sigma_max"))

    sigma = torch.tensor(sampler["sigma_max"])
    noise = torch.randn(208, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(208) % 26
    denoiser = load_desk_denoiser(name).denoiser
    with torch.no_grad():
        images = denoiser(sigma * noise, sigma, torch.nn.functional.one_hot(labels, 26))
    seen = load_extractor("glyphs_cnn")(to_uint8(images))["logits"].argmax(1)
    assert (seen == labels).double().mean() > {"cd_glyphs": 0.65, "di_glyphs": 0.85}[name]
