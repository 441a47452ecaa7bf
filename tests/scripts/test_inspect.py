"""What the command prints of a checkpoint, converts, and refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from script_commands import ROOT, Server, Shell

from skiptune.checkpoints.building.assemble import build_empty, innermost
from skiptune.checkpoints.building.load import load_official
from skiptune.checkpoints.models import load_model, resolve_model
from skiptune.runtime.files import file_digest

sys.path.insert(0, str(ROOT / "tests/checkpoints"))

from official_files import write  # noqa: E402


def text(folder: Path, server: Server, *arguments: Any) -> str:
    done = server.run(folder, "inspect.py", *map(str, arguments))
    assert done.code == 0 and not done.err, done.err
    return done.out


def test_a_pickle_tells_everything(server: Server, tmp_path: Path) -> None:
    path, *_ = write("VEPrecond", tmp_path)
    out = text(tmp_path, server, path)
    for line in (
        "format: pickle",
        f"sha256: {file_digest(path)}",
        "family: EDM",
        "class: VEPrecond",
        '  encoder_type: "residual"',
        "  channel_mult: [1, 2]",
        "preconditioning: variance exploding: predicts the noise, time ln(sigma/2)",
        "sigma: 0.02 to 100",
        "image: 3 x 16 x 16",
        "labels: 4 classes",
        "skip connections: 4, 2 with equally many channels from both sides",
    ):
        assert line in out.splitlines(), out
    rows = [line.split() for line in out.split("norm group over both\n")[1].splitlines()[:4]]
    assert [(row[1], row[3], row[4], row[5]) for row in rows] == [
        ("model.dec.8x8_block0", "32", "32", "yes"),
        ("model.dec.8x8_block1", "32", "16", "no"),
        ("model.dec.16x16_block0", "32", "16", "no"),
        ("model.dec.16x16_block1", "16", "16", "yes"),
    ]
    assert "assumed" not in out


def test_a_state_dict_tells_what_was_assumed(server: Server, tmp_path: Path) -> None:
    path, second, *_ = write("U-ViT", tmp_path)
    out = text(tmp_path, server, path, "--autoencoder", second)
    assert "format: torch (zip)" in out and "family: U-ViT" in out
    assert "labels: 5 classes and the null class 5, guidance 1" in out
    assert "autoencoder: KLAutoencoder" in out and "latents times 0.18215" in out
    assert "assumed, the file does not say: 1 attention heads" in out
    assert "model.model.model.out_blocks.1.skip_linear" in out and "no norm" in out
    without = text(tmp_path, server, path)
    assert "autoencoder" not in without


def test_conversion(server: Server, tmp_path: Path) -> None:
    path, *_ = write("latent diffusion", tmp_path)
    out = text(tmp_path, server, path, "--convert", "small.safetensors")
    assert "left out of the network: betas (1), alphas_cumprod (1), model_ema (" in out
    target = tmp_path / "small.safetensors"
    model = yaml.safe_load((tmp_path / "small.yaml").read_text())
    assert model["sha256"] == file_digest(target) and f"sha256 {model['sha256']}" in out
    loaded = load_model(resolve_model(model, tmp_path)).state_dict()
    official = load_official(path).state_dict()
    assert loaded.keys() == official.keys()
    assert all(torch.equal(loaded[name], value) for name, value in official.items())
    (tmp_path / "places/model").mkdir(parents=True)
    written = (tmp_path / "small.yaml").rename(tmp_path / "places/model/small.yaml").read_text()
    (command,) = re.findall(r"# Command: python scripts/(\S+) (.*)\n", written)
    short = ("seeds=0-1", "sampler.steps=2", "workers=1", "checkpoints=.", "--config-dir=places")
    done = server.run(tmp_path, command[0], *command[1].split(), *short)
    assert done.code == 0 and done.records()[0]["images"] == 2, done.err
    again = text(tmp_path, server, target)
    assert "format: safetensors" in again and "assumed, the file does not say: one attention head" in again


def test_an_official_network_is_recognised_by_its_configuration(server: Server, tmp_path: Path) -> None:
    model = yaml.safe_load((ROOT / "configs/model/ddim_cifar10.yaml").read_text())
    state = official_state(model["denoiser"])
    torch.save(state, tmp_path / "cifar.ckpt")
    out = text(tmp_path, server, "cifar.ckpt")
    assert "parameters: 35,746,307 in float32" in out and "as for the known model that they fit" in out
    assert "same network as in configs/model: ddim_cifar10" in out
    done = server.run(tmp_path, "inspect.py", "cifar.ckpt", "--model", "ddim_celeba")
    assert (
        "its parameters do not fit DiscreteDenoiser: missing: model.down.2.attn.0.norm.weight"
        in done.error_line()
    )


def official_state(description: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Of the official layout, every value 0."""
    network = innermost(build_empty(description)).get_submodule("model")
    return {name: torch.zeros(value.shape) for name, value in network.state_dict().items()}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["missing.pt"], "missing.pt does not exist"),
        (["text.pt"], "text.pt cannot be loaded"),
        (["."], "is a folder without a config.json or model_index.json of diffusers"),
        (["network.ckpt", "--model", "edm_runes"], "no model 'edm_runes' in"),
        (["network.ckpt", "--convert", "network.pt"], "network.pt must be named .safetensors"),
        (["network.ckpt", "--autoencoder", "text.pt"], "text.pt cannot be loaded"),
    ],
)
def test_mistakes(server: Server, tmp_path: Path, arguments: list[str], wanted: str) -> None:
    write("consistency", tmp_path)
    (tmp_path / "text.pt").write_text("what?")
    before = sorted(tmp_path.iterdir())
    done = server.run(tmp_path, "inspect.py", *arguments)
    assert done.code == 2 and done.err.startswith("error: ") and done.err.count("\n") == 1
    assert wanted in done.err and sorted(tmp_path.iterdir()) == before


def test_it_starts_from_any_folder_without_hydra(shell: Shell, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    script = ROOT / "scripts/inspect.py"
    for folder in (tmp_path, script.parent):
        process = shell.start(folder, "-X", "importtime", str(script), str(tmp_path / "a.safetensors"))
        _, err = process.communicate(timeout=120)
        modules = {line.rpartition("|")[2].strip() for line in err.splitlines() if "import time:" in line}
        assert process.returncode == 2 and "holds no network of a known family" in err
        assert "torch" in modules and not modules & {"hydra", "omegaconf", "torch._dynamo"}


def test_a_diffusers_folder_without_diffusers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    program = (
        "import sys, runpy; sys.modules['diffusers'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", program, str(ROOT / "scripts/inspect.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 2 and "pip install diffusers" in done.stderr and done.stderr.count("\n") == 1
