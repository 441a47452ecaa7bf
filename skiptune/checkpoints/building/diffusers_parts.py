"""The parts of a folder of the diffusers library: configurations, empty modules, stored tensors."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from skiptune.checkpoints.building.layouts import State, state_dict
from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.errors import SkiptuneError

# Attention layers were called so until 2023; SD 2.1's autoencoder and DDPM's U-Nets are stored that way.
DEPRECATED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
UNETS = ("UNet2DModel", "UNet2DConditionModel")


def is_diffusers_folder(folder: Path) -> bool:
    """Whether it is one of a model or of a whole pipeline."""
    return (folder / "config.json").is_file() or (folder / "model_index.json").is_file()


def library(name: str, folder: Path) -> Any:
    """diffusers or transformers. Raises SkiptuneError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SkiptuneError(
            f"{folder} is a folder of diffusers; {name}, which reads it, is not installed: pip install {name}"
        ) from error


def empty_model(
    config: dict[str, Any], folder: Path, known: Sequence[str] | None = None, what: str = "U-Net"
) -> nn.Module:
    """The module of a configuration, without memory for its parameters.

    Args:
        known: classes it may have; without them any whose name begins with UNet.

    Raises:
        SkiptuneError: diffusers is not installed, another class, or arguments that it does not take.
    """
    diffusers = library("diffusers", folder)
    name = str(config.get("_class_name"))
    here = name.startswith("UNet") if known is None else name in known
    cls = getattr(diffusers, name, None) if here else None
    if cls is None:
        only = "" if known is None else f" that is known ({', '.join(known)})"
        raise SkiptuneError(f"{folder} holds a {name}, no {what} of diffusers{only}")
    try:
        with torch.device("meta"):
            model = cls.from_config(config)
    except (TypeError, ValueError) as error:
        raise SkiptuneError(f"cannot build the {name} of {folder}: {str(error).splitlines()[0]}") from error
    assert isinstance(model, nn.Module)
    return model


def weight_files(folder: Path) -> list[Path]:
    """The files, one or more, of one variant of the weights: the plain one, else fp16, else the first.

    Raises:
        SkiptuneError: there is none.
    """
    for suffix in ("safetensors", "bin"):
        variants: dict[str, list[Path]] = {}
        for path in sorted(folder.glob(f"*.{suffix}")):
            _, _, variant = path.stem.partition(".")
            variants.setdefault(variant.partition("-")[0], []).append(path)
        if variants:
            return variants[min(variants, key=lambda name: (name != "", name != "fp16", name))]
    raise SkiptuneError(f"{folder} holds no safetensors file, nor one of torch (bin)")


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a folder stores."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if path.suffix == ".bin":
            shapes |= {name: tuple(value.shape) for name, value in state_dict(read_checkpoint(path)).items()}
            continue
        try:
            with safe_open(path, "pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise SkiptuneError(f"{path} is damaged ({error}): get it again") from error
    return {present(name): shape for name, shape in shapes.items()}


def stored_state(folder: Path) -> State:
    """The tensors that a folder stores, mapped from its files."""
    state: State = {}
    for path in weight_files(folder):
        state |= state_dict(read_checkpoint(path))
    return {present(name): value for name, value in state.items()}


def present(name: str) -> str:
    """The present name of a parameter."""
    module, _, kind = name.rpartition(".")
    block, _, layer = module.rpartition(".")
    return f"{block}.{DEPRECATED[layer]}.{kind}" if layer in DEPRECATED and "attentions" in block else name
