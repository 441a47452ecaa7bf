"""Folders of the diffusers library: what the U-Net in one is. Loading it for use is left to diffusers."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from skiptune.checkpoints.building.assemble import difference
from skiptune.checkpoints.building.report import count, sites_table
from skiptune.errors import SkiptuneError
from skiptune.interventions.sites import find_skip_sites
from skiptune.runtime.files import read_json

UNET, SCHEDULER = "unet", "scheduler/scheduler_config.json"
NOISE = ("prediction_type", "beta_schedule", "beta_start", "beta_end", "num_train_timesteps")


def is_diffusers_folder(folder: Path) -> bool:
    """Whether it is one of a model or of a whole pipeline."""
    return (folder / "config.json").is_file() or (folder / "model_index.json").is_file()


def report_folder(folder: Path) -> list[str]:
    """Class, arguments, parameters and skip sites of the U-Net of a model or pipeline, in lines.

    Raises:
        SkiptuneError: diffusers is not installed, no U-Net of it, or weights that do not fit.
    """
    inner = folder if (folder / "config.json").is_file() else folder / UNET
    config = read_json(inner / "config.json")
    network = empty_network(config, inner)
    line = difference(
        {name: tuple(value.shape) for name, value in network.state_dict().items()}, stored_shapes(inner)
    )
    if line:
        raise SkiptuneError(f"{inner}: its weights do not fit {config['_class_name']}: {line}")
    arguments = [f"  {key}: {json.dumps(value)}" for key, value in config.items() if not key.startswith("_")]
    lines = [
        f"format: diffusers folder ({inner})",
        f"class: {config['_class_name']}",
        "arguments:",
        *arguments,
    ]
    lines.append(f"parameters: {count(network):,}")
    if (folder / SCHEDULER).is_file():
        noise = read_json(folder / SCHEDULER)
        lines.append("noise: " + ", ".join(f"{key} {noise[key]}" for key in NOISE if key in noise))
    return lines + sites_table(find_skip_sites(network))


def empty_network(config: dict[str, Any], folder: Path) -> nn.Module:
    """The network of a configuration, without memory for its parameters."""
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise SkiptuneError(
            f"{folder} is a folder of diffusers, which is not installed: pip install diffusers"
        ) from error
    name = str(config.get("_class_name"))
    cls = getattr(diffusers, name, None) if name.startswith("UNet") else None
    if cls is None:
        raise SkiptuneError(f"{folder} holds a {name}, no U-Net of diffusers")
    try:
        with torch.device("meta"):
            network = cls.from_config(config)
    except (TypeError, ValueError) as error:
        raise SkiptuneError(f"cannot build the {name} of {folder}: {str(error).splitlines()[0]}") from error
    assert isinstance(network, nn.Module)
    return network


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors in the safetensors files of a folder; variants (fp16) have the same."""
    shapes: dict[str, tuple[int, ...]] = {}
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SkiptuneError(f"{folder} holds no safetensors file")
    for path in files:
        try:
            with safe_open(path, "pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise SkiptuneError(f"{path} is damaged ({error}): get it again") from error
    return shapes
