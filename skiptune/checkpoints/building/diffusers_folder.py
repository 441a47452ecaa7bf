"""Folders of the diffusers library: what the U-Net in one is, and the denoiser that it makes."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skiptune.checkpoints.building.assemble import adopt, assemble, difference
from skiptune.checkpoints.building.diffusers_parts import (
    UNETS,
    empty_model,
    is_diffusers_folder,
    stored_shapes,
    stored_state,
)
from skiptune.checkpoints.building.load import MISFITS, Checkpoint
from skiptune.checkpoints.building.report import count, sites_table
from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.diffusers_consistency import consistency_description, official_state
from skiptune.denoisers.diffusers_network import DiffusersAutoencoder, DiffusersNetwork
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions.sites import find_skip_sites
from skiptune.runtime.files import read_json

__all__ = ["is_diffusers_folder", "is_port", "load_diffusers", "load_port", "report_folder"]

UNET, AUTOENCODER, SCHEDULER = "unet", "vae", "scheduler/scheduler_config.json"
NOISE = ("prediction_type", "beta_schedule", "beta_start", "beta_end", "num_train_timesteps")
BETAS = ("beta_schedule", "beta_start", "trained_betas")
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}
CONSISTENCY = "CMStochasticIterativeScheduler"
LAST_ALPHA = 2.0**-24  # in place of 0 where the schedule ends in pure noise, as diffusers' Euler has it


def report_folder(folder: Path) -> list[str]:
    """Class, arguments, parameters and skip sites of the U-Net of a model or pipeline, in lines.

    Raises:
        SkiptuneError: diffusers is not installed, no U-Net of it, or weights that do not fit.
    """
    inner = inner_folder(folder)
    config = read_json(inner / "config.json")
    network = empty_model(config, inner)
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if line := difference(expected, stored_shapes(inner)):
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


def inner_folder(folder: Path) -> Path:
    """Where the U-Net is: in the folder of a model itself, in a pipeline's below it."""
    return folder if (folder / "config.json").is_file() else folder / UNET


def load_diffusers(folder: Path | str, as_stored: bool = False, latent_size: int | None = None) -> Denoiser:
    """The denoiser of a pipeline's folder, in evaluation mode, its weights mapped from the files.

    A Stable Diffusion becomes a ``LatentDenoiser``: call it with ``context`` (and SDXL's ``text_embeds`` and
    ``time_ids``, see ``prompts.prompt_inputs``), or inside of ``Prompted``. A port of a consistency model
    becomes a ``ConsistencyDenoiser``.

    Args:
        as_stored: compute with the U-Net's weights in the type they are stored in (half precision of an fp16
            file); else in float32, as the autoencoder always does.
        latent_size: height and width of what it samples, where not those that it was trained with.

    Raises:
        SkiptuneError: in one line: diffusers is not installed, a part is missing, damaged or unknown.
    """
    folder = Path(folder)
    if is_port(folder):
        return load_port(folder).denoiser
    if not (folder / SCHEDULER).is_file():
        raise SkiptuneError(f"{folder} has no {SCHEDULER}, which tells the noise: give a pipeline's folder")
    with named(folder):
        denoiser: Denoiser = discrete(folder, as_stored, latent_size)
        if (folder / AUTOENCODER / "config.json").is_file():
            denoiser = latent(denoiser, folder / AUTOENCODER)
    return denoiser.eval().requires_grad_(False)


@contextlib.contextmanager
def named(folder: Path) -> Iterator[None]:
    """Every error inside is one line that names the folder."""
    try:
        yield
    except SkiptuneError as error:
        text = str(error)
        raise error if str(folder) in text else SkiptuneError(f"{folder}: {text}") from error
    except MISFITS as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise SkiptuneError(f"{folder} does not describe a network that can be built ({reason})") from error


def discrete(folder: Path, as_stored: bool, latent_size: int | None = None) -> DiscreteDenoiser:
    """The U-Net of a pipeline at the noise levels of its scheduler."""
    inner = inner_folder(folder)
    config, scheduler = read_json(inner / "config.json"), read_json(folder / SCHEDULER)
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise SkiptuneError(f"{folder} predicts {prediction}; known are {', '.join(PREDICTIONS)}")
    unet = empty_model(config, inner, UNETS)
    channels = config["in_channels"]
    if config["out_channels"] not in (channels, 2 * channels):
        raise SkiptuneError(
            f"{inner} makes {config['out_channels']} channels of {channels}: it is given more than an image"
        )
    adopt(unet, stored_state(inner), as_stored)
    network = DiffusersNetwork(unet)
    height, width = (latent_size, latent_size) if latent_size else height_and_width(config)
    shape = (channels, height, width)
    levels = alphas_cumprod(scheduler)
    return DiscreteDenoiser(network, shape, levels, network.num_classes, PREDICTIONS[prediction])


def latent(denoiser: Denoiser, folder: Path) -> LatentDenoiser:
    """With the autoencoder of a folder, in float32: SDXL's overflows in half precision."""
    model = empty_model(read_json(folder / "config.json"), folder, ("AutoencoderKL",), "autoencoder")
    adopt(model, stored_state(folder), False)
    autoencoder = DiffusersAutoencoder(model)
    return LatentDenoiser(denoiser, autoencoder, autoencoder.scale)


def height_and_width(config: dict[str, Any]) -> tuple[int, int]:
    """Of what the U-Net was trained with."""
    size = config.get("sample_size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    if not (isinstance(height, int) and isinstance(width, int)):
        raise SkiptuneError(
            f"its sample_size is {size}: write the pixels of the U-Net's images in config.json"
        )
    return height, width


def alphas_cumprod(scheduler: dict[str, Any]) -> Tensor:
    """``abar_t`` ``[T]`` float64 of a scheduler_config.json, with the defaults of diffusers.

    Raises:
        SkiptuneError: a scheduler without betas, or an unknown schedule.
    """
    if not any(scheduler.get(key) is not None for key in BETAS):
        raise SkiptuneError(
            f"scheduler {scheduler.get('_class_name')} has no betas, so no known noise levels"
        )
    times, kind = scheduler.get("num_train_timesteps", 1000), scheduler.get("beta_schedule", "linear")
    ends = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
    if (betas := scheduler.get("trained_betas")) is not None:
        alphas = (1 - torch.tensor(betas, dtype=torch.float64, device="cpu")).cumprod(0)
    elif kind == "squaredcos_cap_v2":
        alphas = cosine_alphas(times)
    else:
        alphas = vp_alphas(kind, *ends, times)
    if scheduler.get("rescale_betas_zero_snr"):
        roots = alphas.sqrt()  # Lin et al. 2024, algorithm 1
        alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
        alphas[-1] = LAST_ALPHA
    return alphas


def cosine_alphas(times: int) -> Tensor:
    """Nichol & Dhariwal 2021, eq. 17, with betas of at most 0.999."""
    t = torch.arange(times + 1, dtype=torch.float64, device="cpu") / times
    bar = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    return (1 - (1 - bar[1:] / bar[:-1]).clamp(max=0.999)).cumprod(0)


def is_port(folder: Path) -> bool:
    """Whether it is a pipeline of a consistency model (openai/diffusers-cd_imagenet64_*)."""
    path = folder / SCHEDULER
    return path.is_file() and read_json(path).get("_class_name") == CONSISTENCY


def load_port(folder: Path) -> Checkpoint:
    """The consistency model of a port, under the official names; diffusers is not needed.

    Raises:
        SkiptuneError: no such port.
    """
    if not is_port(folder):
        raise SkiptuneError(f"{folder} is no consistency model of diffusers, so there is nothing to convert")
    inner = folder / UNET
    with named(folder):
        config = read_json(inner / "config.json")
        description = consistency_description(config, read_json(folder / SCHEDULER))
        state = official_state(stored_state(inner), config)
        denoiser = assemble(description, {f"model.{name}": value for name, value in state.items()}, {})
    return Checkpoint(denoiser, "guided diffusion", description)
