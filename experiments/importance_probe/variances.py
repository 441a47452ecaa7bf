"""The terms of Eq. 4 and the weights that they imply, by step and block (Importance Probe, Prop. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.importance_probe.cases import CaseBlocks, CaseMeans
from experiments.importance_probe.equation_run import FIRST_NOISE, exact_model
from experiments.importance_probe.known_noise import FOUND_WITH, clean_images
from experiments.importance_probe.prompts import PromptList, prompt_list
from experiments.measurement import SeedBlocks
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.checkpoints.models import ModelRef
from skiptune.errors import SkiptuneError
from skiptune.importance import fitted_weights, variance_terms
from skiptune.interventions.blocks import find_transformer_blocks
from skiptune.runtime.generation import sampler_identity
from skiptune.runtime.prompted import prompted_model
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.seed_chunks import NUMERICS
from skiptune.samplers import initial_noise, make_sampler

IMAGES, NOISES = 8, 8  # of a case: every image meets every noise
TERMS = ("signal", "noise", "intrinsic", "gain", "eq4", "fitted")


@dataclass(frozen=True)
class VarianceRun:
    """Stored for every case, some clean images of other prompts with noises of its own:
    ``<step>_<block>_<term>`` of ``TERMS``, the last two being weights, and ``<step>_<block>_calls``."""

    model: ModelRef
    prompts: PromptList
    sampler: Mapping[str, Any]
    device: str
    images: int = IMAGES
    noises: int = NOISES

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "variance terms",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "prompts": self.prompts.identity,
            "sampler": sampler_identity(self.sampler),
            "images": self.images,
            "noises": self.noises,
            "device": self.device,
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        cases = [self.values(case) for case in CaseBlocks.cases_of(seeds)]
        return {name: torch.stack([case[name] for case in cases]) for name in cases[0]}

    def values(self, case: int) -> dict[str, Tensor]:
        """Of one case."""
        numbers = range(2 * self.images * case, 2 * self.images * (case + 1), 2)  # one image of each prompt
        texts = [self.prompts.text(number) for number in numbers]
        made = prompted_model(self.model, self.device, texts)
        rows = range(self.images)
        denoiser = made.of(rows)
        sampler = make_sampler(**self.sampler).fitted(denoiser)
        x0 = clean_images(made, self.prompts, numbers, rows, sampler, FOUND_WITH)
        first = FIRST_NOISE + (case + 1) * self.noises
        noise = initial_noise(range(first, first + self.noises), denoiser.image_shape)[0].to(made.device)
        levels = sampler.sigmas[:-1].tolist()
        terms = variance_terms(denoiser, x0, noise, levels)
        fitted = fitted_weights(denoiser, x0, noise, levels)
        found = dict(zip(TERMS, (*vars(terms).values(), terms.optimal, fitted), strict=True))
        blocks = [block.number for block in find_transformer_blocks(denoiser)]
        calls = torch.tensor(float(2 * len(levels) * self.noises * (1 + len(blocks))), dtype=torch.float64)
        own = {
            f"{step}_{number}_{name}": values[step, column].double().cpu()
            for step in range(len(levels))
            for column, number in enumerate(blocks)
            for name, values in found.items()
        }
        return own | {f"{step}_{n}_calls": calls for step in range(len(levels)) for n in blocks}


def variances(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> CaseMeans:
    """``measure: {kind: variance_terms, step, block, cases}``; the block as the paper counts them, metrics of
    ``TERMS``, one value per case. Rows that differ in step or block are one run.

    Raises:
        SkiptuneError: more cases than prompts can fill.
    """
    spec = measure_section(row)
    step, block, cases = spec.take("step", int), spec.take("block", int), spec.take("cases", int)
    spec.finish()
    prompts = prompt_list(scale)
    if cases * IMAGES > len(prompts.texts):
        raise SkiptuneError(f"{spec.where}.cases is {cases}: {len(prompts.texts)} prompts fill fewer")
    model = exact_model(scale, row.role)
    run = VarianceRun(model, prompts, scale.sampler(row.sampler), scale.device)
    return CaseMeans(run, CaseBlocks.of(cases), metrics, f"{step}_{block}")
