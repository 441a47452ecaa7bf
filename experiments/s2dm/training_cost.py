"""Seconds and memory of a step of training, DDPM's loss and S2-DM's side by side (S2-DMs, Table 3)."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.network_run import measure_section
from experiments.s2dm.step_cost import AS_DDIM, LOSSES, step_costs
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.errors import SkiptuneError
from skiptune.runtime.precision import HALF_PRECISIONS
from skiptune.runtime.provenance import device_name, torch_release
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS

SECONDS, MEMORY = "seconds_per_iteration", "memory_gb_per_gpu"


@dataclass(frozen=True)
class TrainingCost:
    """A chunk of seeds is a repetition: ``seconds_<loss>``, the median over its steps, ``gigabytes_<loss>``.

    Both losses are timed in one chunk, a step of one after a step of the other, so that rows of the two are
    paired. The machine is part of the run's name: times are not carried to another.

    Attributes:
        denoiser: description of the network.
        batch, steps: images of a step, measured steps of each loss.
    """

    denoiser: Mapping[str, Any]
    batch: int
    steps: int
    precision: str
    device: str

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "training cost",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "machine": device_name(self.device),
            "losses": {name: {**loss, **AS_DDIM} for name, loss in LOSSES.items()},
            "chunk": CHUNK,
            **vars(self),
            "denoiser": dict(self.denoiser),
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        found = step_costs(self.denoiser, self.batch, self.steps, torch.device(self.device), self.precision)
        values = {
            **{f"seconds_{name}": statistics.median(found.timings.seconds[name]) for name in LOSSES},
            **{f"gigabytes_{name}": found.memory[name] / 1e9 for name in LOSSES},
        }
        return {name: torch.full((len(seeds),), v, dtype=torch.float64) for name, v in values.items()}


def training_cost(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: training_cost, loss: plain or skip_step, batch, steps, precision}``.

    The network is that of the row's role, its weights made anew. Metrics: ``seconds_per_iteration`` and
    ``memory_gb_per_gpu`` (10^9 bytes, what is counted: ``experiments.s2dm.step_cost.held_bytes``).
    """
    loss, batch, steps, precision = settings(row)
    role = scale.role(row.role)
    run = TrainingCost(role.model["denoiser"], batch, steps, precision, scale.device)
    stored = {SECONDS: f"seconds_{loss}", MEMORY: f"gigabytes_{loss}"}
    return ImageMeans(run, blocks, metrics, stored)


def settings(row: RowConfig) -> tuple[str, int, int, str]:
    """Loss, batch, steps and precision of a row. Raises SkiptuneError for what cannot be."""
    spec = measure_section(row)
    loss, precision = spec.choice("loss", tuple(LOSSES)), spec.choice("precision", ("fp32", *HALF_PRECISIONS))
    batch, steps = spec.take("batch", int), spec.take("steps", int)
    spec.finish()
    if min(batch, steps) < 1:
        raise SkiptuneError(f"{spec.where}: batch and steps must be 1 or more")
    return loss, batch, steps, precision


def evaluations(scale: Scale, row: RowConfig) -> float:
    """Per seed of a chunk, of which all together stand for one repetition: of this row's loss alone."""
    _, batch, steps, _ = settings(row)
    return 3 * batch * (steps + 3) / CHUNK  # forwards and two backwards; steps that are not timed as well
