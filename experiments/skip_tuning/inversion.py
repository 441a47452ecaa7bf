"""Data carried to noise, and how far from a Gaussian it ends (Skip-Tuning, Section 5.4, Table 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.measurement import Evaluated, SeedBlocks
from experiments.network_run import NetworkRun, measure_section, network_arguments
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.errors import SkiptuneError
from skiptune.evaluation.kernels import MedianDistance, make_kernel
from skiptune.evaluation.mmd import mmd
from skiptune.interventions.build import attach_intervention
from skiptune.runtime.generation import sampler_identity
from skiptune.runtime.seed_chunks import NUMERICS, open_run, read_chunks
from skiptune.runtime.store import RunStore
from skiptune.samplers import make_sampler
from skiptune.samplers.inversion import invert
from skiptune.samplers.noise import step_noise

UNBIASED, BIASED = "mmd_", "biased_"  # Eq. 6, and the estimator beside it
SHIFT = 10_000_000  # the Gaussian of a seed is drawn from another stream than any sampler uses


@dataclass(frozen=True)
class Inversion(NetworkRun):
    """``noise [N, C H W]``, unit variance if the model is perfect, of real images along a sampler's grid."""

    kind: ClassVar[str] = "inversion"

    sampler: Mapping[str, Any]

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), "sampler": sampler_identity(self.sampler)}

    def compute(self, seeds: range) -> dict[str, Tensor]:
        images, condition = self.real_images(seeds)
        denoiser, sampler = self.denoiser, make_sampler(**self.sampler)
        levels = sampler.fitted(denoiser).sigmas.tolist()
        denoiser.nfe, parts = 0, []
        with torch.inference_mode(), attach_intervention(self.intervention, denoiser, levels):
            for i in range(0, len(images), self.micro_batch):
                rows = slice(i, i + self.micro_batch)
                labels = None if condition is None else condition[rows]
                parts.append(invert(sampler, denoiser, images[rows], labels))
        calls = denoiser.nfe / len(parts)
        noise = torch.cat(parts).flatten(1).to("cpu", torch.float32)
        return {"noise": noise, "nfe": torch.full((len(noise),), calls)}


@dataclass(frozen=True)
class InversionDistance:
    """MMD^2 between inverted images and as many Gaussian draws, block by block, for named kernels.

    Metrics: ``mmd_<kernel>`` (unbiased, Eq. 6) and ``biased_<kernel>``. Kernels take their length from the
    Gaussian draws, so both arms of a comparison use one and the same.
    """

    settings: Inversion
    blocks: SeedBlocks
    metrics: tuple[str, ...]

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "inversion distance",
            "numerics": NUMERICS,
            "run": self.settings.resolved(),
            "seeds": [list(bounds) for bounds in self.blocks.bounds],
            "metrics": sorted(self.metrics),
        }

    def evaluate(self, store: RunStore) -> Evaluated:
        kernels = [metric.removeprefix(UNBIASED).removeprefix(BIASED) for metric in self.metrics]
        if strange := [m for m in self.metrics if not m.startswith((UNBIASED, BIASED))]:
            raise SkiptuneError(f"unknown distance {strange[0]!r}: write mmd_<kernel> or biased_<kernel>")
        chunks = read_chunks(open_run(self.settings, store), self.blocks.seeds)
        noise = torch.cat([chunk["noise"] for chunk in chunks])
        values: dict[str, list[float]] = {name: [] for name in self.metrics}
        for block, (first, last) in zip(noise.split(self.blocks.size), self.blocks.bounds, strict=True):
            gaussian = step_noise(range(first, last + 1), SHIFT, (1, 1, block.shape[1])).flatten(1).float()
            median = MedianDistance(gaussian)
            found = mmd(block, gaussian, [make_kernel(name, median) for name in kernels])
            for name, value in zip(self.metrics, found, strict=True):
                values[name].append(value.biased if name.startswith(BIASED) else value.unbiased)
        return Evaluated(values, float(torch.cat([chunk["nfe"] for chunk in chunks]).mean()))


def inversion(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> InversionDistance:
    """``measure: {kind: inversion}`` with the row's sampler, run backwards."""
    measure_section(row).finish()
    run = Inversion(**network_arguments(scale, row, intervention), sampler=scale.sampler(row.sampler))
    return InversionDistance(run, blocks, metrics)


def evaluations(scale: Scale, row: RowConfig) -> float:
    """As many as the row's sampler has steps, twice that for Heun."""
    order = 2 if row.sampler["name"] == "heun" else 1
    return order * (int(row.sampler["steps"]) - 1)
