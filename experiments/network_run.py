"""Runs that call a network on numbered inputs without sampling: what they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.scale import Scale
from experiments.tables.config import RowConfig
from experiments.tables.parsing import Section
from skiptune.checkpoints.models import ModelRef, resolve_model
from skiptune.data import Dataset, load_dataset
from skiptune.data.images import from_uint8
from skiptune.denoisers import Denoiser
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.runtime.generation import named_intervention
from skiptune.runtime.networks import cached_model
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS
from skiptune.samplers import initial_noise, step_noise

INPUTS = ("noise", "data")
FINITE = 5_000_000  # images; sets that are rendered without end have more


@dataclass(frozen=True)
class NetworkRun:
    """One network, one intervention; a subclass says what is computed and adds its settings.

    Attributes:
        dataset: whose images are the clean inputs: those of the split ``reference``, which, where they are
            rendered, no network was trained on; of a finite set, perhaps sorted by class, in a random order.
    """

    kind: ClassVar[str]

    model: ModelRef
    intervention: Mapping[str, Any]
    dataset: str
    device: str
    micro_batch: int

    def resolved(self) -> dict[str, Any]:
        own = {k: v for k, v in vars(self).items() if k not in NetworkRun.__dataclass_fields__}
        data = (
            {"name": self.dataset, "digest": load_dataset(self.dataset).digest} if self.reads_images else None
        )
        return {
            "kind": self.kind,
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "intervention": named_intervention(self.intervention),
            "dataset": data,
            "chunk": CHUNK,
            "micro_batch": self.micro_batch,
            "device": self.device,
            **own,
        }

    @property
    def reads_images(self) -> bool:
        """Whether real images are among the inputs."""
        return vars(self).get("inputs") != "noise"

    @property
    def denoiser(self) -> Denoiser:
        return cached_model(self.model, self.device)

    def real_images(self, seeds: range) -> tuple[Tensor, Tensor | None]:
        """Clean images ``[N, C, H, W]`` in [-1, 1] (latents of a latent model), one-hot labels ``[N, K]``."""
        data, denoiser = load_dataset(self.dataset), self.denoiser
        images, labels = data.batch(image_numbers(data, seeds), "reference")
        x = from_uint8(images).to(self.device)
        if isinstance(denoiser, LatentDenoiser):
            x = denoiser.encode(x)
        return x, self.one_hot(labels)

    def noise(self, seeds: range) -> tuple[Tensor, Tensor | None]:
        """Unit noise ``[N, C, H, W]`` and one-hot labels, those that sampling begins with."""
        shape, classes = self.denoiser.image_shape, self.denoiser.num_classes
        noise, labels = initial_noise(seeds, shape, classes)
        return noise.to(self.device), self.one_hot(labels)

    def one_hot(self, labels: Tensor | None) -> Tensor | None:
        classes = self.denoiser.num_classes
        return None if labels is None or not classes else F.one_hot(labels, classes).float().to(self.device)

    def noisy(self, seeds: range, sigma: float, inputs: str) -> tuple[Tensor, Tensor | None]:
        """``sigma n`` as sampling begins (``inputs`` noise), or ``x0 + sigma n`` with a real image (data)."""
        if inputs == "noise":
            noise, condition = self.noise(seeds)
            return sigma * noise.to(torch.float64), condition
        images, condition = self.real_images(seeds)
        noise = step_noise(seeds, 0, tuple(images.shape[1:]), images.device)
        return images.to(torch.float64) + sigma * noise, condition


def image_numbers(data: Dataset, seeds: range) -> list[int]:
    """Which images of the split ``reference`` these seeds stand for."""
    size = data.size("reference")
    if size > FINITE:
        return [seed % size for seed in seeds]
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    return order[torch.arange(seeds.start, seeds.stop) % size].tolist()


def measure_section(row: RowConfig) -> Section:
    """The settings of a row's measurement, its kind taken: to be read key by key."""
    section = Section(row.measure, f"row '{row.id}': measure")
    section.take("kind", str)
    return section


def network_arguments(scale: Scale, row: RowConfig, intervention: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``NetworkRun`` for a row. Raises SkiptuneError if a file is missing."""
    role = scale.role(row.role)
    return {
        "model": resolve_model(role.model, scale.checkpoints),
        "intervention": dict(intervention),
        "dataset": role.model["dataset"],
        "device": scale.device,
        "micro_batch": scale.batch_of(row.role),
    }
