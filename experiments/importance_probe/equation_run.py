"""Block weights from measured variances: those that Eq. 4 implies, and those that lower the error itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from experiments.importance_probe.known_noise import FOUND_WITH, clean_images
from experiments.importance_probe.prompts import PromptList
from experiments.scale import Scale
from skiptune.checkpoints.models import ModelRef, resolve_model
from skiptune.importance import fitted_weights, optimal_weights
from skiptune.runtime.generation import sampler_identity
from skiptune.runtime.prompted import prompted_model
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS
from skiptune.samplers import initial_noise, make_sampler

EQUATIONS = {"eq4": optimal_weights, "fitted": fitted_weights}
IMAGES, NOISES = 32, 8
FIRST_NOISE = 900_000_000  # seeds of the noises that weights are found with, no image's


def exact_model(scale: Scale, role_name: str) -> ModelRef:
    """A role's model in float32, whatever its files hold: differences of predictions ask for it."""
    model = scale.role(role_name).model
    if "as_stored" in model.get("denoiser", {}):
        model = {**model, "denoiser": {**model["denoiser"], "as_stored": False}}
    return resolve_model(model, scale.checkpoints)


@dataclass(frozen=True)
class EquationRun:
    """Stored for every image: ``weights`` ``[N, S, m]``, found with ``IMAGES`` clean images of the chunk's
    first prompts, each with ``NOISES`` noises, at the levels of the sampler; the same for all.

    Attributes:
        equation: ``eq4``, the minimum of Eq. 4, or ``fitted``, of the error to first order.
    """

    stored: ClassVar[str] = "weights"

    model: ModelRef
    prompts: PromptList
    sampler: Mapping[str, Any]
    equation: str
    device: str

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "weights of an equation",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "prompts": self.prompts.identity,
            "sampler": sampler_identity(self.sampler),
            "equation": self.equation,
            "images": IMAGES,
            "noises": NOISES,
            "clean": FOUND_WITH,
            "chunk": CHUNK,
            "device": self.device,
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        # One image of each of the first prompts: those of the first split.
        numbers = self.prompts.numbers(seeds)[::2][:IMAGES]
        texts = [self.prompts.text(number) for number in numbers]
        made = prompted_model(self.model, self.device, texts)
        rows = range(len(numbers))
        denoiser = made.of(rows)
        sampler = make_sampler(**self.sampler).fitted(denoiser)
        x0 = clean_images(made, self.prompts, numbers, rows, sampler, FOUND_WITH)
        noise, _ = initial_noise(range(FIRST_NOISE, FIRST_NOISE + NOISES), denoiser.image_shape)
        levels = sampler.sigmas[:-1].tolist()
        weights = EQUATIONS[self.equation](denoiser, x0, noise.to(made.device), levels)
        images = len(self.prompts.numbers(seeds))
        return {"weights": weights.float().expand(images, -1, -1).contiguous()}
