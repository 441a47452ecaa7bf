"""Models by description: where the weights are, what they hash to, and the network built from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skiptune.checkpoints.building.diffusers_folder import is_diffusers_folder, load_diffusers
from skiptune.checkpoints.building.load import load_official
from skiptune.checkpoints.desk import DESK_FOLDER, load_desk_denoiser
from skiptune.checkpoints.fetching.hub import folder_digest
from skiptune.data.images import NEAREST, ROUNDINGS
from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import canonical_json, digest, file_digest

KINDS = ("desk", "trained", "official", "diffusers")


@dataclass(frozen=True)
class ModelRef:
    """A model that is there: what a run is named by (``identity``) and where its file lies.

    Attributes:
        kind: ``desk`` (shipped), ``trained`` (by ``scripts/train.py`` into the checkpoints folder, with its
            record), ``official`` (a file of any official format, or converted from one) or ``diffusers`` (a
            folder of that library).
        description: of the denoiser as canonical JSON, so that the value is hashable; for a folder, which
            describes itself, further arguments of ``load_diffusers``.
        sha256: of the weights' file; of a folder, of the names and contents of all its files.
        autoencoder_path, autoencoder_sha256: the second file of a latent model that needs one.
        rounding: how the model's official program turns its images into uint8, see ``to_uint8``.
    """

    name: str
    kind: str
    description: str
    path: Path
    sha256: str
    autoencoder_path: Path | None = None
    autoencoder_sha256: str | None = None
    rounding: str = NEAREST

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the network's outputs; the paths do not."""
        second = {"autoencoder": self.autoencoder_sha256} if self.autoencoder_sha256 else {}
        rounding = {"rounding": self.rounding} if self.rounding != NEAREST else {}
        own = {"name": self.name, "denoiser": digest(self.description), "sha256": self.sha256}
        return {**own, **second, **rounding}


def resolve_model(model: Mapping[str, Any], checkpoints: Path) -> ModelRef:
    """Check that the weights of a model configuration are there; nothing is loaded yet.

    Raises:
        SkiptuneError: an unknown kind or rounding, a missing file (the line says where to get it) or an
            unexpected sha256.
    """
    name, kind = model["name"], model["kind"]
    if kind not in KINDS:
        raise SkiptuneError(f"model {name} is of kind {kind!r}; choose one of {', '.join(KINDS)}")
    rounding = model.get("rounding", NEAREST)
    if rounding not in ROUNDINGS:
        raise SkiptuneError(f"model {name}: rounding is {rounding!r}; choose one of {', '.join(ROUNDINGS)}")
    description = canonical_json(dict(model["denoiser"]))
    if kind == "desk":
        path = DESK_FOLDER / f"{name}.safetensors"
        sha256 = verified(path, name, "train it with: make train-desk-models", model.get("sha256"))
        return ModelRef(name, kind, description, path, sha256, rounding=rounding)
    path = checkpoints / model["file"]
    url = model.get("url")
    if kind == "diffusers":
        sha256 = verified_folder(path, name, where(url), model.get("sha256"))
        return ModelRef(name, kind, description, path, sha256, rounding=rounding)
    command = f", or with: python scripts/download.py {name}" if url and "://" in url else ""
    sha256 = verified(path, name, where(url) + command, model.get("sha256"))
    if not model.get("autoencoder_file"):
        return ModelRef(name, kind, description, path, sha256, rounding=rounding)
    second = checkpoints / model["autoencoder_file"]
    hint = where(model.get("autoencoder_url"))
    second_sha256 = verified(second, name, hint, model.get("autoencoder_sha256"))
    return ModelRef(name, kind, description, path, sha256, second, second_sha256, rounding)


def where(url: str | None) -> str:
    """How to come by a file: its address, or the words that stand in place of one."""
    if url is None:
        return "no public address is known"
    return f"get it from {url}" if "://" in url else url


def verified(path: Path, name: str, hint: str, expected: str | None) -> str:
    """The sha256 of a file. Raises SkiptuneError if it is missing or not the ``expected`` one."""
    if not path.is_file():
        raise SkiptuneError(f"checkpoint {path} of model {name} is missing; {hint}")
    sha256 = file_digest(path)
    if expected and sha256 != expected:
        raise SkiptuneError(
            f"{path} has sha256 {sha256[:12]}, expected {expected[:12]}: it is damaged; get it again"
        )
    return sha256


def verified_folder(path: Path, name: str, hint: str, expected: str | None) -> str:
    """As ``verified``, of a folder of diffusers."""
    if not is_diffusers_folder(path):
        raise SkiptuneError(f"diffusers folder {path} of model {name} is missing; {hint}")
    sha256, _ = folder_digest(path)
    if expected and sha256 != expected:
        raise SkiptuneError(
            f"{path} has sha256 {sha256[:12]}, expected {expected[:12]}: it is damaged; get it again"
        )
    return sha256


def load_model(model: ModelRef) -> Denoiser:
    """The network in evaluation mode on the CPU.

    Raises:
        SkiptuneError: damaged file, or parameters that do not fit the description.
    """
    if model.kind == "official":
        return load_official(model.path, json.loads(model.description), model.autoencoder_path)
    if model.kind == "diffusers":
        return load_diffusers(model.path, **json.loads(model.description))
    loaded = load_desk_denoiser(model.path.stem, model.path.parent)
    if loaded.sha256 != model.sha256:
        raise SkiptuneError(f"{model.path} changed while the run was going on; start again")
    if canonical_json(loaded.description) != model.description:
        raise SkiptuneError(f"{model.path} holds another network than model.denoiser says; set it back")
    return loaded.denoiser
