"""Input-gradient norms of a network (Skip-Tuning, Eq. 3; Table 1, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.network_run import INPUTS, NetworkRun, measure_section, network_arguments
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.evaluation.gradient_norm import gradient_norms
from skiptune.interventions.build import attach_intervention

READINGS = ("sum", "jacobian")  # ST-A5: the default, and the one reported beside it
PROJECTIONS = 8


@dataclass(frozen=True)
class GradientNorm(NetworkRun):
    """``sum [N]`` and ``jacobian [N]``, both readings, at one noise level; inputs as ``NetworkRun.noisy``."""

    kind: ClassVar[str] = "gradient norm"

    sigma: float
    inputs: str

    def compute(self, seeds: range) -> dict[str, Tensor]:
        x, condition = self.noisy(seeds, self.sigma, self.inputs)
        denoiser = self.denoiser
        with attach_intervention(self.intervention, denoiser, [self.sigma]):
            norms = {
                reading: gradient_norms(
                    denoiser,
                    x,
                    self.sigma,
                    condition,
                    reading=reading,
                    seeds=seeds if reading == "jacobian" else (),
                    projections=PROJECTIONS,
                    micro_batch=self.micro_batch,
                )
                for reading in READINGS
            }
        return {**norms, "nfe": torch.ones(len(x))}


def gradient_norm(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: gradient_norm, sigma, inputs: noise or data}``; metrics ``sum`` and ``jacobian``."""
    spec = measure_section(row)
    sigma, inputs = spec.number("sigma"), spec.choice("inputs", INPUTS)
    spec.finish()
    run = GradientNorm(**network_arguments(scale, row, intervention), sigma=sigma, inputs=inputs)
    return ImageMeans(run, blocks, metrics)


def evaluations(scale: Scale, row: RowConfig) -> float:
    """One pass forwards, and two for each of the gradients."""
    return 2 * (1 + 2) + 2 * (PROJECTIONS - 1)
