"""Seconds to draw images, models and numbers of steps side by side (S2-DMs, Table 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.timing import alternate
from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from experiments.tables.parsing import Section
from skiptune.checkpoints.models import ModelRef, resolve_model
from skiptune.errors import SkiptuneError
from skiptune.runtime.generation import sample_images, sampler_identity
from skiptune.runtime.networks import cached_model
from skiptune.runtime.provenance import device_name, torch_release
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS
from skiptune.samplers import make_sampler

SECONDS, DRAWN = "total_seconds", 50_000  # the paper's number of samples
NONE = {"name": "none"}


@dataclass(frozen=True)
class Contestant:
    """A model, by the role that it plays, and the settings of its sampler."""

    role: str
    model: ModelRef
    sampler: Mapping[str, Any]

    @property
    def name(self) -> str:
        return contestant_name(self.role, self.sampler)


def contestant_name(role: str, sampler: Mapping[str, Any]) -> str:
    """Under which its time is stored."""
    return f"{role}_{sampler['name']}_{sampler['steps']}"


@dataclass(frozen=True)
class SamplingTime:
    """A chunk of seeds is a repetition: all contestants in turn draw ``batch`` images from its first seed on.

    Stored: ``seconds_<contestant>``, of ``DRAWN`` images at that speed, and ``nfe_<contestant>``. The machine
    is part of the run's name: times are not carried to another.
    """

    contestants: tuple[Contestant, ...]
    batch: int
    device: str
    noise_device: str

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "sampling time",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "machine": device_name(self.device),
            "contestants": {
                one.name: {"model": one.model.identity, "sampler": sampler_identity(one.sampler)}
                for one in self.contestants
            },
            "drawn": DRAWN,
            "batch": self.batch,
            "chunk": CHUNK,
            "device": self.device,
            "noise_device": self.noise_device,
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        drawn = range(seeds.start, seeds.start + self.batch)
        for model in {one.model.path: one.model for one in self.contestants}.values():
            # Not measured: weights are loaded, kernels chosen.
            sample_images(cached_model(model, self.device), make_sampler("ddim", steps=1), [NONE], drawn)
        contestants = {one.name: self.drawing(one, drawn) for one in self.contestants}
        found = alternate(contestants, self.batch, repeats=1, warm_up=False)
        values: dict[str, float] = {}
        for name in contestants:
            values[f"seconds_{name}"] = found.seconds[name][0] * DRAWN / self.batch
            values[f"nfe_{name}"] = float(found.outcomes[name])
        return {name: torch.full((len(seeds),), v, dtype=torch.float64) for name, v in values.items()}

    def drawing(self, one: Contestant, seeds: range) -> Callable[[], int]:
        """A function that draws these images and returns its network evaluations per image."""
        denoiser, sampler = cached_model(one.model, self.device), make_sampler(**one.sampler)

        def draw() -> int:
            ((_, calls),), _ = sample_images(denoiser, sampler, [NONE], seeds, self.noise_device)
            if self.device == "cuda":
                torch.cuda.synchronize()
            return calls

        return draw


def sampling_time(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: sampling_time, roles, samplers, step_counts, batch: {scale: images}}``.

    Every role draws with every sampler (a name) in every number of steps, and the row's own role and sampler
    are one of them. Metric: ``total_seconds`` of 50,000 images at the speed of ``batch`` images.
    """
    spec = measure_section(row)
    roles, samplers, counts = (spec.take(key, Sequence) for key in ("roles", "samplers", "step_counts"))
    spec.take("batch", Mapping)
    spec.finish()
    contestants = tuple(
        Contestant(
            role,
            resolve_model(scale.role(role).model, scale.checkpoints),
            scale.sampler({"name": name, "steps": steps}),
        )
        for role in roles
        for name in samplers
        for steps in counts
    )
    own = contestant_name(row.role, scale.sampler(row.sampler))
    if own not in [one.name for one in contestants]:
        raise SkiptuneError(f"{spec.where}: the row's own {own} is not among what is timed")
    stored = {SECONDS: f"seconds_{own}", "nfe": f"nfe_{own}"}
    timed = SamplingTime(contestants, batch(scale, row), scale.device, scale.noise_device)
    return ImageMeans(timed, blocks, metrics, stored)


def batch(scale: Scale, row: RowConfig) -> int:
    """Images that are drawn at once at this scale. Raises SkiptuneError unless there is a whole number."""
    spec = measure_section(row)
    found: int = Section(spec.take("batch", Mapping), f"{spec.where}.batch").take(scale.name, int)
    if found < 1:
        raise SkiptuneError(f"{spec.where}.batch: {found} images, it must be 1 or more")
    return found
