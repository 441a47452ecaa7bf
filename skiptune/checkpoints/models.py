"""Models by description: where the weights are, what they hash to, and the network built from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from skiptune.checkpoints.desk import DESK_FOLDER, build_denoiser, load_desk_denoiser
from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import canonical_json, digest, file_digest


@dataclass(frozen=True)
class ModelRef:
    """A model that is there: what a run is named by (``identity``) and where its file lies.

    Attributes:
        kind: ``desk`` (shipped) or ``state_dict`` (a safetensors file with the official parameter names).
        description: ``{"class", "kwargs"}`` as canonical JSON, so that the value is hashable.
        sha256: of the weights' file.
    """

    name: str
    kind: str
    description: str
    path: Path
    sha256: str

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the network's outputs; the path does not."""
        return {"name": self.name, "denoiser": digest(self.description), "sha256": self.sha256}


def resolve_model(model: Mapping[str, Any], checkpoints: Path) -> ModelRef:
    """Check that the weights of a model configuration are there; nothing is loaded yet.

    Raises:
        SkiptuneError: a missing file (the line says where to get it) or an unexpected sha256.
    """
    description = canonical_json(dict(model["denoiser"]))
    if model["kind"] == "desk":
        path = DESK_FOLDER / f"{model['name']}.safetensors"
        hint = "train it with: make train-desk-models"
    else:
        path = checkpoints / model["file"]
        hint = f"get it from {model['url']}"
    if not path.is_file():
        raise SkiptuneError(f"checkpoint {path} of model {model['name']} is missing; {hint}")
    sha256 = file_digest(path)
    expected = model.get("sha256")
    if expected and sha256 != expected:
        raise SkiptuneError(
            f"{path} has sha256 {sha256[:12]}, expected {expected[:12]}: it is damaged; get it again"
        )
    return ModelRef(model["name"], model["kind"], description, path, sha256)


def load_model(model: ModelRef) -> Denoiser:
    """The network in evaluation mode on the CPU.

    Raises:
        SkiptuneError: damaged file, or parameters that do not fit the description.
    """
    if model.kind == "desk":
        loaded = load_desk_denoiser(model.name, model.path.parent)
        if loaded.sha256 != model.sha256:
            raise SkiptuneError(f"{model.path} changed while the run was going on; start again")
        if canonical_json(loaded.description) != model.description:
            raise SkiptuneError(f"{model.path} holds another network than model.denoiser says; set it back")
        return loaded.denoiser
    if model.path.suffix != ".safetensors":
        raise SkiptuneError(
            f"{model.path} is a pickle, which can run code when it is read; "
            "this version loads safetensors files only"
        )
    denoiser = build_denoiser(json.loads(model.description))
    try:
        state = load_file(model.path)
        denoiser.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SkiptuneError(f"{model.path} does not fit model {model.name}: {reason}") from error
    return denoiser.eval().requires_grad_(False)
