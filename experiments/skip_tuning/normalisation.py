"""What the first normalisation of a decoder block hides of a scaled skip (Appendix C, Remark 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.network_run import NetworkRun, measure_section, network_arguments
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.interventions.block_paths import group_kinds, norm0_changes, output_changes, record_block_calls


@dataclass(frozen=True)
class NormalisationRun(NetworkRun):
    """Relative changes per image ``[N]``, means over the sites.

    ``groups_decoder``, ``groups_skip``, ``groups_mixed``: of norm0's output in groups of that kind, 0 where
    the network has none; ``block_input``, ``block_residual``, ``block_norm0_input``, ``block_norm0_output``:
    of the block's output with Skip-Tuning at that place.
    """

    kind: ClassVar[str] = "normalisation"

    sigma: float
    rho: float

    def compute(self, seeds: range) -> dict[str, Tensor]:
        x, condition = self.noisy(seeds, self.sigma, "data")
        denoiser, sigma = self.denoiser, torch.tensor(self.sigma, dtype=torch.float64)
        parts: list[dict[str, Tensor]] = []
        for i in range(0, len(x), self.micro_batch):
            rows = slice(i, i + self.micro_batch)
            labels = None if condition is None else condition[rows]
            with torch.inference_mode(), record_block_calls(denoiser) as calls:
                denoiser(x[rows], sigma.to(x.device), labels)
            found: dict[str, list[Tensor]] = {}
            if not any("mixed" in group_kinds(call.site) for call in calls):
                found["groups_mixed"] = [torch.zeros(len(x[rows]))]
            for call in calls:
                changes = norm0_changes(call, self.rho)
                for kind, change in zip(group_kinds(call.site), changes.T, strict=True):
                    found.setdefault(f"groups_{kind}", []).append(change)
                for place in ("input", "residual", "norm0_input", "norm0_output"):
                    change = output_changes(call, self.rho, place)
                    found.setdefault(f"block_{place}", []).append(change)
            parts.append({name: torch.stack(values).mean(0).cpu() for name, values in found.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} | {
            "nfe": torch.ones(len(x))
        }


def normalisation(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: normalisation, sigma, rho}``; metrics as ``NormalisationRun`` says."""
    spec = measure_section(row)
    sigma, rho = spec.number("sigma"), spec.number("rho")
    spec.finish()
    run = NormalisationRun(**network_arguments(scale, row, intervention), sigma=sigma, rho=rho)
    return ImageMeans(run, blocks, metrics)


def evaluations(scale: Scale, row: RowConfig) -> float:
    return 3.0
