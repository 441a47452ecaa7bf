"""A text-to-image model with the prompts of a run encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skiptune.checkpoints.models import ModelRef
from skiptune.checkpoints.prompted import inputs_of_prompts
from skiptune.denoisers import Denoiser
from skiptune.denoisers.diffusers_network import Prompted
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.runtime.networks import cached_model, compiled_model


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: its scale, 1 for none, the text of its other half, None for the model's.

    Raises:
        SkiptuneError: a scale that is no number below a million, a text that is none or has no guidance.
    """

    scale: float = 1.0
    negative: str | None = None

    def __post_init__(self) -> None:
        if type(self.scale) not in (int, float) or not abs(self.scale) < 1e6:
            raise SkiptuneError(f"guidance is {self.scale!r}, it must be a number below a million; 1 is none")
        object.__setattr__(self, "scale", float(self.scale))
        if self.negative is not None and type(self.negative) is not str:
            raise SkiptuneError(f"negative_prompt is {self.negative!r}, it must be a text, or null")
        if self.negative is not None and self.scale == 1:
            raise SkiptuneError("negative_prompt says nothing without guidance: give a scale other than 1")

    @property
    def copies(self) -> int:
        """Network evaluations of an image and step."""
        return 1 if self.scale == 1 else 2

    @property
    def identity(self) -> Any:
        """As a plain value."""
        return self.scale if self.negative is None else {"scale": self.scale, "negative": self.negative}


UNGUIDED = Guidance()


@dataclass(frozen=True)
class PromptedModel:
    """A network and what its encoder made of some prompts.

    Attributes:
        inputs: of the network by name, a row for every prompt; ``nothing``: of guidance's other half.
        guidance: its scale, as of ``Prompted``.
    """

    denoiser: Denoiser
    inputs: dict[str, Tensor]
    nothing: dict[str, Tensor]
    guidance: float

    def of(self, rows: Sequence[int]) -> Prompted:
        """The denoiser of these prompts, one an image."""
        own = {name: value[list(rows)] for name, value in self.inputs.items()}
        return Prompted(self.denoiser, own, self.nothing, self.guidance)

    def decode(self, x: Tensor) -> Tensor:
        """Images ``[N, 3, H, W]`` of samples."""
        return self.denoiser.decode(x) if isinstance(self.denoiser, LatentDenoiser) else x

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device


def prompted_model(
    model: ModelRef,
    device: str,
    texts: Sequence[str],
    guidance: Guidance = UNGUIDED,
    compile: bool = False,
) -> PromptedModel:
    """The model, with its blocks compiled if asked for, and these prompts encoded.

    Raises:
        SkiptuneError: as ``inputs_of_prompts``, and as loading does.
    """
    denoiser = (compiled_model if compile else cached_model)(model, device)
    found = inputs_of_prompts(model, denoiser, [*texts, guidance.negative])
    inputs = {name: value[:-1].to(device) for name, value in found.items()}
    nothing = {name: value[-1:].to(device) for name, value in found.items()}
    return PromptedModel(denoiser, inputs, nothing, guidance.scale)
