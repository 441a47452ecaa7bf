"""Diff-Instruct at paper scale, whose weights nobody published, with a small network: from file to model."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from script_commands import ROOT, Shell

from experiments.benchmarks.official_layout import write_edm
from experiments.config_files import choice
from skiptune.checkpoints.models import load_model, resolve_model
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError

NAME = "diff_instruct_imagenet64"
SMALL: dict[str, Any] = {
    "img_resolution": 8,
    "label_dim": 4,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
}
SHORT = ("images=8", "batch=4", "workers=1", "device=cpu", "precision=fp32", "log_every=1")


def curve(run: Path) -> list[tuple[int, float]]:
    """Images and loss as an offline run of Weights & Biases has them."""
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(run)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    records = [json.loads(line) for line in said.splitlines()]
    items = [record["history"]["item"] for record in records if record["type"] == "history"]
    return [(item["images"], item["loss"]) for item in items]


def test_diff_instruct_makes_the_model_that_the_rows_ask_for(shell: Shell, tmp_path: Path) -> None:
    model = yaml.safe_load((ROOT / f"configs/model/{NAME}.yaml").read_text())
    model["denoiser"]["kwargs"] |= SMALL
    torch.manual_seed(0)
    teacher = build_denoiser(model["denoiser"])
    (checkpoints := tmp_path / "checkpoints").mkdir()
    path = checkpoints / "edm-imagenet-64x64-cond-adm.pkl"
    write_edm(path, model["denoiser"]["class"], model["denoiser"]["kwargs"], teacher)
    with pytest.raises(SkiptuneError, match=f"train.py model={NAME} training={NAME} export=checkpoints"):
        resolve_model(model, checkpoints)

    networks = [
        f"{group}.denoiser.kwargs.{key}={json.dumps(value)}"
        for group in ("model", "training.loss.teacher")
        for key, value in SMALL.items()
    ]
    short = [f"training.{setting}" for setting in SHORT]
    command = ["train.py", f"model={NAME}", f"training={NAME}", "export=checkpoints", "tracker=wandb"]
    done = shell.run(tmp_path, *command, *networks, *short)
    assert done.code == 0, done.err
    (tracked,) = tmp_path.glob("outputs/wandb/offline-run-*")
    (losses,) = tmp_path.glob("outputs/training/*/loss.jsonl")
    rows = [json.loads(line) for line in losses.read_text().splitlines()]
    assert curve(tracked) == [(row["images"], row["loss"]) for row in rows] and len(rows) == 2
    student = load_model(resolve_model(model, checkpoints))
    assert student.sigma_max >= 5.0 and student.num_classes == 4
    changed = [
        name
        for name, value in student.state_dict().items()
        if not torch.allclose(value, teacher.state_dict()[name], rtol=1e-3, atol=1e-6)
    ]
    assert changed and student.state_dict().keys() == teacher.state_dict().keys()


def test_s2dm_makes_a_file_that_its_model_reads(shell: Shell, tmp_path: Path) -> None:
    """The whole path, with a small network and digits in the place of CIFAR-10."""
    name = "s2dm_skip10_cifar10"
    network = {"ch": 32, "ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": [], "image_size": 8}
    network |= {"in_channels": 1, "out_ch": 1}
    model = copy.deepcopy(dict(choice("model", name)))
    model["denoiser"]["kwargs"]["network"]["kwargs"] |= network
    model["denoiser"]["kwargs"]["image_shape"] = [1, 8, 8]
    (checkpoints := tmp_path / "checkpoints").mkdir()
    command = ["train.py", f"model={name}", "export=checkpoints"]
    with pytest.raises(SkiptuneError, match=f"train it with: python scripts/{' '.join(command)}"):
        resolve_model(model, checkpoints)
    changed = ["model.dataset=digits", "model.denoiser.kwargs.image_shape=[1,8,8]", "tracker=none"]
    changed += [
        f"model.denoiser.kwargs.network.kwargs.{key}={json.dumps(value)}" for key, value in network.items()
    ]
    done = shell.run(tmp_path, *command, *changed, *(f"training.{setting}" for setting in SHORT))
    assert done.code == 0, done.err
    record = json.loads((checkpoints / f"{name}.json").read_text())["settings"]
    assert record["loss"]["name"] == "skip_step" and record["loss"]["summed"] and record["flip"]
    denoiser = load_model(resolve_model(model, checkpoints))
    images = denoiser(torch.randn(2, 1, 8, 8), torch.tensor(2.0))
    assert images.shape == (2, 1, 8, 8) and bool(images.isfinite().all())
