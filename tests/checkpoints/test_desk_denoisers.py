from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from skiptune.checkpoints.building.load import load_checkpoint
from skiptune.checkpoints.desk import (
    DESK_FOLDER,
    load_desk_autoencoder,
    load_desk_denoiser,
    save_desk_denoiser,
)
from skiptune.data import load_dataset
from skiptune.data.images import from_uint8, to_uint8
from skiptune.denoisers import build_denoiser
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation import load_extractor
from skiptune.skip_step import READINGS, SkipStep
from skiptune.training.losses import LOSSES

KWARGS = {
    "img_resolution": 8,
    "img_channels": 1,
    "label_dim": 4,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [],
}
DESCRIPTION: dict[str, Any] = {"class": "EDMPrecond", "kwargs": KWARGS}
AUTOENCODER = "autoencoder_glyphs"


def shipped_denoisers() -> list[str]:
    """All of them, distilled ones too."""
    records = {path.stem: json.loads(path.read_text()) for path in sorted(DESK_FOLDER.glob("*.json"))}
    return [
        name
        for name, record in records.items()
        if "denoiser" in record.get("settings", {}) and "rho" not in record  # coefficients are no network
    ]


def trained_on_data() -> list[str]:
    """Shipped denoisers that a loss on clean images was minimised for, not a distillation."""
    settings = {
        name: json.loads((DESK_FOLDER / f"{name}.json").read_text())["settings"]
        for name in shipped_denoisers()
    }
    return [name for name, said in settings.items() if said["loss"].get("name", "edm") in LOSSES]


SHIPPED = trained_on_data()


def state(description: dict[str, Any] = DESCRIPTION) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tensors = build_denoiser(description).state_dict()
    return {k: v if "filter" in k or k == "u" else torch.randn(v.shape) for k, v in tensors.items()}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_desk_denoiser("tiny", DESCRIPTION, state(), {"settings": {"seed": 3}}, tmp_path)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        load_desk_denoiser("tiny", folder)
    assert "\n" not in str(caught.value)


def rewrite(path: Path, content: bytes) -> None:
    """Replace the weights and make the record fit, so that only what is in the file is wrong."""
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps({"sha256": hashlib.sha256(content).hexdigest()}))


def test_round_trip_is_exact_after_rounding_to_float16(saved: Path) -> None:
    loaded = load_desk_denoiser("tiny", saved.parent)
    assert loaded.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    weights = state()
    for name, value in loaded.denoiser.state_dict().items():
        assert value.dtype == torch.float32
        exact = weights[name] if "resample_filter" in name else weights[name].half().float()
        assert torch.equal(value, exact)
    assert any(not torch.equal(value, weights[name]) for name, value in loaded.denoiser.state_dict().items())
    assert not loaded.denoiser.training and not any(p.requires_grad for p in loaded.denoiser.parameters())
    # What was loaded and saved again is the same file.
    again = save_desk_denoiser("again", DESCRIPTION, loaded.denoiser.state_dict(), {}, saved.parent)
    assert again.read_bytes() == saved.read_bytes()
    record = json.loads(saved.with_suffix(".json").read_text())
    assert record == {"name": "tiny", "settings": {"seed": 3}, "sha256": loaded.sha256}
    assert sorted(path.suffix for path in saved.parent.glob("tiny*")) == [".json", ".safetensors"]


def test_buffers_keep_their_precision(tmp_path: Path) -> None:
    description = {"class": "iDDPMPrecond", "kwargs": KWARGS}
    save_desk_denoiser("tiny", description, state(description), {}, tmp_path)
    levels = build_denoiser(description).get_buffer("u")
    assert not torch.equal(levels.half().float(), levels)
    assert torch.equal(load_desk_denoiser("tiny", tmp_path).denoiser.get_buffer("u"), levels)


def test_weights_that_cannot_be_stored(tmp_path: Path) -> None:
    for value in (1e6, float("nan")):
        weights = state()
        weights["model.map_layer0.weight"][0, 0] = value
        with pytest.raises(SkiptuneError, match="map_layer0.weight of tiny is not finite or too large"):
            save_desk_denoiser("tiny", DESCRIPTION, weights, {}, tmp_path)
    with pytest.raises(SkiptuneError, match="not those of the network described for tiny"):
        save_desk_denoiser("tiny", DESCRIPTION, {"x": torch.zeros(1)}, {}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_changed_weights_are_refused(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    refused(saved.parent, "has not the sha256 of its record tiny.json")


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_weights_and_record_belong_together(saved: Path, suffix: str) -> None:
    saved.with_suffix(suffix).unlink()
    refused(saved.parent, "no desk model 'tiny' in .*: expected tiny.safetensors and tiny.json")


def test_damaged_record_is_refused(saved: Path) -> None:
    saved.with_suffix(".json").write_text('{"sha256": ')
    refused(saved.parent, "tiny.json is damaged")
    saved.with_suffix(".json").write_text("{}")
    refused(saved.parent, "has not the sha256")


def test_foreign_files_are_refused(saved: Path) -> None:
    tensors = load_file(saved)
    other = saved.with_name("other.safetensors")

    def content(metadata: dict[str, str] | None, tensors: dict[str, torch.Tensor] = tensors) -> bytes:
        save_file(tensors, other, metadata)
        return other.read_bytes()

    header = {"denoiser": json.dumps(DESCRIPTION)}
    wrong = "holds no desk denoiser"
    for bad, message in (
        (b"", wrong),
        (b"no safetensors file, but long enough to have a header", wrong),
        (saved.read_bytes()[:-100], wrong),
        (content(None), wrong),  # no header
        (content({"format": "pt"}), wrong),  # a header without description
        (content({"denoiser": "{"}), wrong),
        (content({"denoiser": "[1]"}), wrong),
        (content(header, {"x": torch.zeros(1)}), wrong),
        (content({"denoiser": json.dumps({"class": "Linear"})}), "unknown denoiser class 'Linear'"),
        (content({"denoiser": json.dumps({"class": "EDMPrecond"})}), "cannot build EDMPrecond"),
    ):
        rewrite(saved, bad)
        refused(saved.parent, message)
    rewrite(saved, content(header))
    load_desk_denoiser("tiny", saved.parent)  # so it was the content each time


def test_unknown_descriptions() -> None:
    with pytest.raises(SkiptuneError, match="unknown denoiser class 'None'; choose one of .*VPPrecond"):
        build_denoiser({})
    with pytest.raises(SkiptuneError, match="cannot build EDMPrecond: .*depth"):
        build_denoiser({"class": "EDMPrecond", "kwargs": {**KWARGS, "depth": 3}})


def test_something_is_shipped() -> None:
    assert {"edm_glyphs", "edm_digits_uncond"} <= set(SHIPPED)


@pytest.mark.parametrize("name", shipped_denoisers())
def test_trained_files_are_read_like_official_ones(name: str) -> None:
    """So ``inspect`` explains them."""
    checkpoint, ours = load_checkpoint(DESK_FOLDER / f"{name}.safetensors"), load_desk_denoiser(name)
    assert checkpoint.description == ours.description and checkpoint.assumed == ()
    state, expected = checkpoint.denoiser.state_dict(), ours.denoiser.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key].float(), expected[key]) for key in state)


def test_all_desk_weights_together_are_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in DESK_FOLDER.glob("*.safetensors")}
    of_s2dm = sum(size for name, size in sizes.items() if name.startswith(("ddim", "s2dm")))  # 40 trainings
    of_prompts = sum(size for name, size in sizes.items() if name.startswith("sd") or name == "glyphs_scorer")
    assert sum(sizes.values()) - of_s2dm - of_prompts < 40e6 and of_s2dm < 30e6 and of_prompts < 20e6


@pytest.mark.parametrize("name", SHIPPED)
class TestShipped:
    def test_file_is_small_and_the_record_names_it(self, name: str) -> None:
        path = DESK_FOLDER / f"{name}.safetensors"
        loaded = load_desk_denoiser(name)
        assert path.stat().st_size < 6e6
        record = json.loads(path.with_suffix(".json").read_text())
        assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == loaded.sha256
        with safe_open(path, "pt") as file:
            kinds = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        parameters = dict(loaded.denoiser.named_parameters())
        assert {kinds[key] for key in parameters} == {"F16"}
        assert {kinds[key] for key in kinds.keys() - parameters.keys()} <= {"F32"}

    def test_record_tells_how_it_was_made(self, name: str) -> None:
        record = json.loads((DESK_FOLDER / f"{name}.json").read_text())
        assert record["name"] == record["settings"]["name"] == name
        settings = record["settings"]
        assert isinstance(settings["seed"], int) and settings["images"] > 0
        with safe_open(DESK_FOLDER / f"{name}.safetensors", "pt") as file:
            assert json.loads(file.metadata()["denoiser"]) == settings["denoiser"]
        assert re.fullmatch("[0-9a-f]{40}(-dirty)?", record["commit"])
        assert record["duration_seconds"] > 0 and record["device"] and "torch" in record["packages"]
        trained = build_denoiser(settings["denoiser"])
        if isinstance(trained, LatentDenoiser):
            trained = trained.model
        assert record["parameters"] == sum(p.numel() for p in trained.parameters())
        images, losses = zip(*record["loss_curve"], strict=True)
        assert len(images) >= 50 and list(images) == sorted(set(images))
        steps = settings["images"] // settings["batch"]
        assert images[-1] > 0.99 * steps * settings["batch"]
        assert sum(losses[-5:]) < sum(losses[:5])

    def test_it_denoises(self, name: str) -> None:
        denoiser = load_desk_denoiser(name).denoiser
        settings = json.loads((DESK_FOLDER / f"{name}.json").read_text())["settings"]
        dataset = load_dataset(settings["dataset"])
        images, labels = dataset.batch(range(32), "reference")
        clean = from_uint8(images)
        if isinstance(denoiser, LatentDenoiser):
            clean = denoiser.encode(clean)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        condition = torch.eye(denoiser.num_classes)[labels] if denoiser.num_classes else None
        noisy = clean + 0.2 * noise
        estimate = denoiser(noisy, torch.tensor(0.2), condition)
        if settings["loss"].get("name") == "skip_step":  # at its optimum s_t times the mean of the noise
            reading = {key: settings["loss"][key] for key in ("skip", "tau", *READINGS)}
            at = int((denoiser.sigmas - 0.2).abs().argmin())
            estimate = noisy - (noisy - estimate) / SkipStep(**reading).minimiser(denoiser.alphas_cumprod)[at]
        assert (estimate - clean).square().mean() < 0.5 * (0.2 * noise).square().mean()

    def test_a_latent_model_ships_the_desk_autoencoder(self, name: str) -> None:
        denoiser = load_desk_denoiser(name).denoiser
        if not isinstance(denoiser, LatentDenoiser):
            return
        state = denoiser.state_dict()
        for key, value in load_desk_autoencoder(AUTOENCODER).state_dict().items():
            assert torch.equal(state[f"autoencoder.{key}"], value)


def test_the_shipped_autoencoder_brings_letters_back_as_its_record_says() -> None:
    network = load_desk_autoencoder(AUTOENCODER)
    record = json.loads((DESK_FOLDER / f"{AUTOENCODER}.json").read_text())
    assert record["parameters"] == sum(p.numel() for p in network.parameters())
    images, labels = load_dataset("glyphs").batch(range(200), "heldout")
    with torch.no_grad():
        back = network(from_uint8(images))
    psnr = 10 * (4 / (back - from_uint8(images)).square().flatten(1).mean(1)).log10().mean()
    assert float(psnr) == pytest.approx(record["heldout_psnr"], abs=0.5)
    guess = load_extractor("glyphs_cnn")(to_uint8(back))["logits"].argmax(1)
    assert float((guess == labels).float().mean()) > 0.97


def test_an_autoencoder_is_no_denoiser() -> None:
    with pytest.raises(SkiptuneError, match="holds no desk denoiser"):
        load_desk_denoiser(AUTOENCODER)
    with pytest.raises(SkiptuneError, match="holds no desk autoencoder"):
        load_desk_autoencoder("edm_glyphs")
