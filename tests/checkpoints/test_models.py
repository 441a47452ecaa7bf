from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from skiptune.checkpoints.models import load_model, resolve_model
from skiptune.errors import SkiptuneError

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/data/golden"
CASE = next(
    case for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"] if case["case"] == "edm_adm"
)
OFFICIAL: dict[str, Any] = {
    "name": "small_adm",
    "kind": "state_dict",
    "file": "weights.safetensors",
    "url": "https://example.org/weights.safetensors",
    "denoiser": CASE["constructor"],
}


def configured(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / f"configs/model/{name}.yaml").read_text())


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def refused(model: dict[str, Any], folder: Path, message: str) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        load_model(resolve_model(model, folder))
    assert "\n" not in str(caught.value)


def test_official_names_and_outputs() -> None:
    model = resolve_model(OFFICIAL, GOLDEN / "edm_adm")
    assert model.sha256 == CASE["files"]["weights.safetensors"]["sha256"]
    denoiser = load_model(model)
    assert not denoiser.training and not any(p.requires_grad for p in denoiser.parameters())
    weights = load_file(GOLDEN / "edm_adm/weights.safetensors")
    state = denoiser.state_dict()
    assert state.keys() == weights.keys() and len(state) == CASE["num_state_dict_entries"]
    assert all(torch.equal(state[name], weights[name].float()) for name in weights)
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_identity_is_of_content_not_of_place(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes((GOLDEN / "edm_adm/weights.safetensors").read_bytes())
    here, there = resolve_model(OFFICIAL, GOLDEN / "edm_adm"), resolve_model(OFFICIAL, tmp_path)
    assert here.identity == there.identity and here.path != there.path
    kwargs = OFFICIAL["denoiser"]["kwargs"]
    other = {**OFFICIAL, "denoiser": {**OFFICIAL["denoiser"], "kwargs": {**kwargs, "dropout": 0.5}}}
    assert resolve_model(other, tmp_path).identity != here.identity
    tensors = load_file(here.path)
    tensors[next(iter(tensors))].view(-1)[0] += 1
    save_file(tensors, tmp_path / "weights.safetensors")
    assert resolve_model(OFFICIAL, tmp_path).identity != here.identity


@pytest.mark.parametrize("name", ["edm_imagenet64", "edm_afhqv2"])
def test_missing_file_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    model = configured(name)
    assert model["url"].startswith("https://") and model["url"].endswith(model["file"])
    refused(
        model,
        tmp_path,
        f"checkpoint .*{model['file']} of model {name} is missing; get it from {model['url']}",
    )


def test_missing_desk_model_says_how_to_train_it(tmp_path: Path) -> None:
    missing = {**configured("edm_glyphs"), "name": "edm_runes"}
    refused(missing, tmp_path, "edm_runes.* is missing; train it with: make train-desk-models")


def test_desk_model_is_loaded_from_its_configuration() -> None:
    model = resolve_model(configured("edm_glyphs"), Path("nowhere"))
    denoiser = load_model(model)
    assert denoiser.image_shape == (3, 16, 16) and denoiser.num_classes == 26
    assert model.sha256 == hashlib.sha256(model.path.read_bytes()).hexdigest()


def test_unexpected_sha256_is_refused() -> None:
    right = CASE["files"]["weights.safetensors"]["sha256"]
    load_model(resolve_model({**OFFICIAL, "sha256": right}, GOLDEN / "edm_adm"))
    refused(
        {**OFFICIAL, "sha256": "0" * 64},
        GOLDEN / "edm_adm",
        f"has sha256 {right[:12]}, expected 000000000000",
    )


@pytest.mark.parametrize("name", ["network.pkl", "network.safetensors"])
def test_pickle_is_refused_and_not_executed(name: str, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    (tmp_path / name).write_bytes(pickle.dumps({"ema": Bomb(trap)}))
    refused({**OFFICIAL, "file": name}, tmp_path, "is a pickle|does not fit model small_adm")
    assert not trap.exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert trap.exists()  # the trap works


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = load_file(GOLDEN / "edm_adm/weights.safetensors")
    path = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    refused(OFFICIAL, tmp_path, "does not fit model small_adm: ")
    name = next(iter(weights))
    save_file({**weights, name: torch.zeros(1, 2)}, path)
    refused(OFFICIAL, tmp_path, "does not fit model small_adm: ")
    path.write_bytes((GOLDEN / "edm_adm/weights.safetensors").read_bytes()[:-8])
    refused(OFFICIAL, tmp_path, "does not fit model small_adm: ")
