"""Norms of skip and decoder features, site by site (Skip-Tuning, Section 3; Figures 2 and 10)."""

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
from skiptune.interventions.build import attach_intervention
from skiptune.interventions.norms import record_skip_norms
from skiptune.interventions.sites import SkipSite, find_skip_sites


@dataclass(frozen=True)
class SkipNormRun(NetworkRun):
    """Per image ``[N]``: ``prop_<i>`` = ``|d_i| / |u_i|`` and ``share_<i>`` = ``|d_i| / (|d_i| + |u_i|)``.

    ``<i>`` is the site from the bottom; ``prop_mean`` and ``share_mean`` are means over the sites.
    ``weight_<i>`` is the share of the skip channels in the norm of the block's first convolution.
    """

    kind: ClassVar[str] = "skip norms"

    sigma: float
    inputs: str

    def compute(self, seeds: range) -> dict[str, Tensor]:
        x, condition = self.noisy(seeds, self.sigma, self.inputs)
        denoiser, sigma = self.denoiser, torch.tensor(self.sigma, dtype=torch.float64)
        with (
            torch.inference_mode(),
            attach_intervention(self.intervention, denoiser, [self.sigma]),
            record_skip_norms(denoiser) as record,
        ):
            for i in range(0, len(x), self.micro_batch):
                rows = slice(i, i + self.micro_batch)
                denoiser(x[rows], sigma.to(x.device), None if condition is None else condition[rows])
        u, d = (torch.cat(parts, dim=1).cpu() for parts in (record.u, record.d))
        weights = torch.tensor([weight_share(site) for site in find_skip_sites(denoiser)])
        values = {"prop": d / u, "share": d / (d + u), "weight": weights[:, None].expand_as(u)}
        found = {"nfe": torch.ones(len(x))}
        for name, value in values.items():
            found[f"{name}_mean"] = value.mean(0)
            found |= {f"{name}_{i}": row.contiguous() for i, row in enumerate(value)}
        return found


def weight_share(site: SkipSite) -> float:
    """``|W_d| / (|W_d| + |W_u|)`` of the first layer of a decoder block that takes the concatenation."""
    width = site.u_channels + site.d_channels
    matrices = (p for p in site.block.parameters() if p.dim() > 1 and p.shape[1] == width)
    weight = next(matrices).detach()
    u, d = weight[:, : site.u_channels].norm(), weight[:, site.u_channels :].norm()
    return float(d / (d + u))


def skip_norms(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: skip_norms, sigma, inputs, site}``; metrics ``prop``, ``share``, ``weight``.

    ``site`` is a number from the bottom or ``mean``.
    """
    spec = measure_section(row)
    sigma, inputs = spec.number("sigma"), spec.choice("inputs", INPUTS)
    site = spec.optional("site", object, "mean")
    spec.finish()
    run = SkipNormRun(**network_arguments(scale, row, intervention), sigma=sigma, inputs=inputs)
    return ImageMeans(run, blocks, metrics, {name: f"{name}_{site}" for name in metrics})


def evaluations(scale: Scale, row: RowConfig) -> float:
    return 1.0
