from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from experiments.config_files import choice, choices
from skiptune.checkpoints.building.assemble import build_empty, innermost
from skiptune.checkpoints.desk import load_desk_denoiser, save_desk_denoiser
from skiptune.checkpoints.models import load_model, resolve_model
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions import find_skip_sites

sys.path.insert(0, str(Path(__file__).resolve().parent))

from official_files import DESCRIPTIONS, write  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/data/golden"
CASE = next(
    case for case in json.loads((GOLDEN / "manifest.json").read_text())["cases"] if case["case"] == "edm_adm"
)
OFFICIAL: dict[str, Any] = {
    "name": "small_adm",
    "kind": "official",
    "file": "weights.safetensors",
    "url": "https://example.org/weights.safetensors",
    "denoiser": CASE["constructor"],
}


OFFICIAL_CONFIGS = sorted(
    path for path in (ROOT / "configs/model").glob("*.yaml") if "kind: official" in path.read_text()
)


def configured(name: str) -> dict[str, Any]:
    return dict(choice("model", name))


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


def test_rounding_is_in_the_identity_only_where_it_is_not_the_usual_one() -> None:
    usual = resolve_model(OFFICIAL, GOLDEN / "edm_adm")
    assert usual.rounding == "nearest" and usual.identity.keys() == {"name", "denoiser", "sha256"}
    down = resolve_model({**OFFICIAL, "rounding": "down"}, GOLDEN / "edm_adm")
    assert down.identity == {**usual.identity, "rounding": "down"}
    refused({**OFFICIAL, "rounding": "up"}, GOLDEN / "edm_adm", "'up'; choose one of nearest, down")


def test_official_programs_that_cut_off() -> None:
    # openai/consistency_models scripts/image_sample.py, CompVis/latent-diffusion scripts/sample_diffusion.py
    configs = choices("model")
    down = {name for name, model in configs.items() if "rounding" in model}
    official = {name for name, model in configs.items() if model["kind"] != "desk"}
    consistency = {name for name in official if name.startswith(("cd_", "cm_"))}
    assert down == consistency | {"ldm_cin256"} and len(consistency) == 5
    assert {configs[name]["rounding"] for name in down} == {"down"}


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
    refused({**OFFICIAL, "file": name}, tmp_path, "refers to (posix|nt).mkdir|cannot be loaded")
    assert not trap.exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert trap.exists()  # the trap works


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = load_file(GOLDEN / "edm_adm/weights.safetensors")
    path = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    refused(OFFICIAL, tmp_path, "weights.safetensors: holds no network of a known family")
    name = next(iter(weights))
    save_file({**weights, name: torch.zeros(1, 2)}, path)
    refused(OFFICIAL, tmp_path, f"do not fit EDMPrecond: of another shape: {name} is \\[1, 2\\] instead of")
    path.write_bytes((GOLDEN / "edm_adm/weights.safetensors").read_bytes()[:-8])
    refused(OFFICIAL, tmp_path, "weights.safetensors cannot be loaded")


def test_unknown_kind_is_refused(tmp_path: Path) -> None:
    refused(
        {**OFFICIAL, "kind": "state_dict"},
        tmp_path,
        "of kind 'state_dict'; choose one of desk, trained, official, diffusers",
    )


def test_words_in_place_of_an_address(tmp_path: Path) -> None:
    refused(configured("diff_instruct_imagenet64"), tmp_path, "is missing; its authors published no weights")
    refused({**OFFICIAL, "url": None}, tmp_path, "is missing; no public address is known")


@pytest.mark.parametrize("path", OFFICIAL_CONFIGS, ids=lambda path: path.stem)
def test_official_configurations_build(path: Path) -> None:
    model = yaml.safe_load(path.read_text())
    denoiser = build_empty(model["denoiser"])
    count = sum(parameter.numel() for parameter in innermost(denoiser).parameters())
    said = [int(number.replace(",", "")) for number in re.findall(r"[\d,]{9,}", path.read_text())]
    assert model["name"] == path.stem and model["file"] and model["dataset"] and model["gflop_per_nfe"] > 0
    assert count in said  # the head of the file tells the number of parameters
    skips = int(re.search(r"(\d+) skip\s(?:#\s+)?connections", path.read_text())[1])  # type: ignore[index]
    assert len(find_skip_sites(denoiser)) == skips


class TestLatentModel:
    """A U-ViT whose autoencoder is a second file."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> dict[str, Any]:
        description = DESCRIPTIONS["U-ViT"]
        path, second, _, _ = write("U-ViT", tmp_path)
        assert second is not None
        return {
            "name": "small_uvit", "kind": "official", "file": path.name, "url": "https://example.org/uvit",
            "autoencoder_file": second.name, "autoencoder_url": "https://example.org/autoencoder",
            "denoiser": description,
        }  # fmt: skip

    def test_it_is_loaded_with_its_autoencoder(self, model: dict[str, Any], tmp_path: Path) -> None:
        denoiser = load_model(resolve_model(model, tmp_path))
        assert isinstance(denoiser, LatentDenoiser) and denoiser.num_classes == 5
        assert denoiser.decode(torch.randn(1, 4, 16, 16)).shape == (1, 3, 32, 32)

    def test_both_files_are_in_the_identity(self, model: dict[str, Any], tmp_path: Path) -> None:
        before = resolve_model(model, tmp_path)
        assert before.autoencoder_path == tmp_path / model["autoencoder_file"]
        state = torch.load(before.autoencoder_path, weights_only=True)
        state["decoder.conv_in.bias"] += 1
        torch.save(state, before.autoencoder_path)
        after = resolve_model(model, tmp_path)
        assert after.sha256 == before.sha256 and after.identity != before.identity

    def test_a_missing_second_file(self, model: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / model["autoencoder_file"]).unlink()
        refused(model, tmp_path, "autoencoder.pth of model small_uvit is missing; get it from .*/autoencoder")
        alone = {key: value for key, value in model.items() if key != "autoencoder_file"}
        refused(alone, tmp_path, "holds no autoencoder: give it as the second file")


def test_model_that_was_trained_into_the_checkpoints_folder(tmp_path: Path) -> None:
    description = load_desk_denoiser("edm_digits_uncond").description
    state = load_desk_denoiser("edm_digits_uncond").denoiser.state_dict()
    path = save_desk_denoiser("tuned", description, state, {}, tmp_path)
    model = {"name": "tuned_10m", "kind": "trained", "file": "tuned.safetensors", "denoiser": description}
    found = resolve_model(model, tmp_path)
    assert found.path == path and found.sha256 == json.loads((tmp_path / "tuned.json").read_text())["sha256"]
    loaded = load_model(found).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    refused({**model, "file": "x.safetensors", "url": "train it with: t.py"}, tmp_path, "missing; train it")
