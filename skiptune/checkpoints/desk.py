"""Desk models: small networks trained by this project and shipped with their training record.

``<name>.safetensors`` holds float16 weights and, in its header, how to build the network; ``<name>.json`` is
the record (settings, seed, commit, loss curve, duration, sha256).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from skiptune.denoisers import Denoiser, build_denoiser
from skiptune.denoisers.autoencoders import Autoencoder, build_autoencoder
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import digest, file_digest, read_json, write_atomic

Network = TypeVar("Network", bound=nn.Module)
DESK_FOLDER = Path(__file__).resolve().parent / "desk"
COEFFICIENTS = "skip coefficients"


@dataclass(frozen=True)
class LoadedDenoiser:
    """A network in evaluation mode, the sha256 of its file, and how the file says to build it."""

    denoiser: Denoiser
    sha256: str
    description: dict[str, Any]


def save_desk_denoiser(
    name: str,
    description: dict[str, Any],
    state: dict[str, Tensor],
    record: dict[str, Any],
    folder: Path = DESK_FOLDER,
) -> Path:
    """Write weights (parameters as float16, buffers as they are) and record; returns the path of the weights.

    A latent model's autoencoder is part of its weights.

    Raises:
        SkiptuneError: weights of another network, or with values that float16 does not hold.
    """
    return save_desk_network(
        name, "denoiser", description, build_denoiser(description), state, record, folder
    )


def load_desk_denoiser(name: str, folder: Path = DESK_FOLDER) -> LoadedDenoiser:
    """The shipped denoiser of that name, checked against the sha256 of its record.

    Raises:
        SkiptuneError: no such model, damaged file, or a sha256 that differs from the record.
    """
    denoiser, sha256, description = load_desk_network(name, "denoiser", build_denoiser, folder)
    return LoadedDenoiser(denoiser, sha256, description)


def save_desk_autoencoder(
    name: str,
    description: dict[str, Any],
    state: dict[str, Tensor],
    record: dict[str, Any],
    folder: Path = DESK_FOLDER,
) -> Path:
    """As ``save_desk_denoiser``, of an autoencoder that latent models are trained with."""
    return save_desk_network(
        name, "autoencoder", description, build_autoencoder(description), state, record, folder
    )


def load_desk_autoencoder(name: str, folder: Path = DESK_FOLDER) -> Autoencoder:
    """As ``load_desk_denoiser``: the frozen autoencoder in evaluation mode."""
    return load_desk_network(name, "autoencoder", build_autoencoder, folder)[0]


def desk_digest(name: str, folder: Path = DESK_FOLDER) -> str:
    """The sha256 of a file of any of these kinds, checked against its record.

    Raises:
        SkiptuneError: file or record is missing, or they do not belong together.
    """
    path, record = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not (path.is_file() and record.is_file()):
        raise SkiptuneError(f"no desk model {name!r} in {folder}: expected {path.name} and {record.name}")
    sha256 = file_digest(path)
    if sha256 != read_json(record).get("sha256"):
        raise SkiptuneError(f"{path} has not the sha256 of its record {record.name}; restore both together")
    return sha256


class _Coefficients(nn.Module):
    rho: Tensor

    def __init__(self, description: dict[str, Any]):
        super().__init__()
        self.register_buffer("rho", torch.empty(int(description["sites"])))


@dataclass(frozen=True)
class LearnedCoefficients:
    """Skip coefficients from the bottom site to the top, the sha256 of their file and of the model's."""

    rho: tuple[float, ...]
    sha256: str
    model_sha256: str


def save_coefficients(
    name: str, rho: Tensor, model_sha256: str, record: dict[str, Any], folder: Path = DESK_FOLDER
) -> Path:
    """Write learned skip coefficients ``[k]`` (float32) and their record, which shows them too."""
    description = {"sites": len(rho), "model_sha256": model_sha256}
    record = {**record, "rho": rho.tolist()}
    return save_desk_network(
        name, COEFFICIENTS, description, _Coefficients(description), {"rho": rho}, record, folder
    )


def load_coefficients(name: str, folder: Path = DESK_FOLDER) -> LearnedCoefficients:
    """As ``load_desk_denoiser``: the coefficients of that name."""
    module, sha256, description = load_desk_network(name, COEFFICIENTS, _Coefficients, folder)
    return LearnedCoefficients(tuple(module.rho.tolist()), sha256, str(description["model_sha256"]))


def save_desk_network(
    name: str,
    kind: str,
    description: dict[str, Any],
    network: nn.Module,
    state: dict[str, Tensor],
    record: dict[str, Any],
    folder: Path = DESK_FOLDER,
) -> Path:
    """As ``save_desk_denoiser``, of any ``network`` of that kind with the weights ``state``."""
    if state.keys() != network.state_dict().keys():
        raise SkiptuneError(
            f"the weights are not those of the network described for {name}; nothing is written"
        )
    tensors = {key: value.contiguous() for key, value in state.items()}
    for key, _ in network.named_parameters():
        tensors[key] = tensors[key].to(torch.float16)
        if not tensors[key].isfinite().all():
            raise SkiptuneError(f"{key} of {name} is not finite or too large for float16; train it again")
    content = save(tensors, metadata={kind: json.dumps(description)})
    path = folder / f"{name}.safetensors"
    write_atomic(path, content)
    record = {"name": name, **record, "sha256": digest(content)}
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    write_atomic(path.with_suffix(".json"), "{\n" + lines + "\n}\n")
    return path


def load_desk_network(
    name: str, kind: str, build: Callable[[dict[str, Any]], Network], folder: Path = DESK_FOLDER
) -> tuple[Network, str, dict[str, Any]]:
    """As ``load_desk_denoiser``: the network that ``build`` makes of the description, sha256, description."""
    path, sha256 = folder / f"{name}.safetensors", desk_digest(name, folder)
    try:
        with safe_open(path, "pt") as file:
            description = json.loads(file.metadata()[kind])
            state = {key: file.get_tensor(key).to(torch.float32) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        network = build(description)
        network.load_state_dict(state)
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SkiptuneError(f"{path} holds no desk {kind} ({reason}); train it again") from error
    return network.eval().requires_grad_(False), sha256, description
