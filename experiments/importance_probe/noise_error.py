"""Error of the noise prediction with known noise, under block weights (Importance Probe, Prop. 1, IP-C15)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.importance_probe.acting import acting_on, named_acting
from experiments.importance_probe.equation_run import EquationRun
from experiments.importance_probe.known_noise import MEASURED, clean_images
from experiments.importance_probe.prompt_means import PromptMeans
from experiments.importance_probe.prompt_scores import prompts_per_category, source_of
from experiments.importance_probe.prompts import PromptList, prompt_list
from experiments.importance_probe.ranking_run import RankingRun
from experiments.measurement import SeedBlocks
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.checkpoints.models import ModelRef, resolve_model
from skiptune.runtime.generation import sampler_identity
from skiptune.runtime.prompted import PromptedModel, prompted_model
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS, AnyRun
from skiptune.samplers import initial_noise, make_sampler


@dataclass(frozen=True)
class NoiseErrorRun:
    """Stored for every image: ``mse_<s>``, the mean squared error of the noise prediction, without guidance,
    on a clean image with its noise at the level of step s, and ``mse``, their mean."""

    model: ModelRef
    prompts: PromptList
    sampler: Mapping[str, Any]
    intervention: Mapping[str, Any]
    micro_batch: int
    device: str
    source: RankingRun | EquationRun | None = None

    def resolved(self) -> dict[str, Any]:
        source = {} if self.source is None else {"source": self.source.resolved()}
        return {
            "kind": "noise error",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "prompts": self.prompts.identity,
            "sampler": sampler_identity(self.sampler),
            "intervention": named_acting(self.intervention),
            "chunk": CHUNK,
            "micro_batch": self.micro_batch,
            "device": self.device,
            **source,
        }

    @property
    def inputs(self) -> Mapping[str, AnyRun]:
        return {} if self.source is None else {"source": self.source}

    def build(self, seeds: range, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        numbers, prompts = self.prompts.numbers(seeds), self.prompts.prompts(seeds)
        texts = [self.prompts.texts[j] for j in prompts]
        made = prompted_model(self.model, self.device, texts)
        found = None if self.source is None else inputs["source"][self.source.stored]
        parts = []
        for first in range(0, len(numbers), self.micro_batch):
            batch = numbers[first : first + self.micro_batch]
            own = None if found is None else found[first : first + len(batch)]
            parts.append(self.batch(made, batch, prompts.start, own))
        errors = torch.cat(parts)
        named = {f"mse_{step}": errors[:, step].contiguous() for step in range(errors.shape[1])}
        calls = torch.full((len(numbers),), float(errors.shape[1]))
        return {**named, "mse": errors.mean(dim=1), "nfe": calls}

    @torch.no_grad()
    def batch(self, made: PromptedModel, numbers: range, first: int, own: Tensor | None) -> Tensor:
        """Errors ``[N, S]`` float64; arguments as of ``PromptRun.batch``."""
        rows = [number // 2 - first for number in numbers]
        denoiser = made.of(rows)
        sampler = make_sampler(**self.sampler).fitted(denoiser)
        x0 = clean_images(made, self.prompts, numbers, rows, sampler, MEASURED)
        noise, _ = initial_noise([self.prompts.noise_seed(n) for n in numbers], denoiser.image_shape)
        noise = noise.to(made.device)
        errors = []
        with acting_on(denoiser, self.intervention, sampler.sigmas.tolist(), own):
            for level in sampler.sigmas[:-1].tolist():
                x = x0 + level * noise
                predicted = (x.double() - denoiser(x, torch.tensor(level)).double()) / level
                errors.append((predicted - noise.double()).square().mean(dim=(1, 2, 3)).cpu())
        return torch.stack(errors, dim=1)


def noise_error(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> PromptMeans:
    """``measure: {kind: noise_error, prompts: {scale: number per category}, ranking}``; the ranking as of
    ``prompt_scores``. Metrics: ``mse_<step>`` and ``mse``, one value per prompt."""
    spec = measure_section(row)
    prompts = prompt_list(scale, prompts_per_category(spec, scale))
    source = source_of(spec, scale, row, intervention, prompts)
    spec.finish()
    run = NoiseErrorRun(
        model=resolve_model(scale.role(row.role).model, scale.checkpoints),
        prompts=prompts,
        sampler=scale.sampler(row.sampler),
        intervention=dict(intervention),
        micro_batch=scale.batch_of(row.role),
        device=scale.device,
        source=source,
    )
    return PromptMeans(run, prompts, metrics, "mse")
