"""Images of prompts under an intervention, each with its score: the run behind Tables I and III to VI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from experiments.importance_probe.acting import NONE, acting_on, named_acting
from experiments.importance_probe.equation_run import EquationRun
from experiments.importance_probe.prompts import PromptList
from experiments.importance_probe.ranking_run import RankingRun
from skiptune.checkpoints.models import ModelRef
from skiptune.data.images import to_uint8
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.perceptual import ImageTextScorer
from skiptune.evaluation.scorers import ScorerRef
from skiptune.runtime.generation import not_finite, sampler_identity
from skiptune.runtime.networks import cached_extractor
from skiptune.runtime.prompted import Guidance, PromptedModel, prompted_model
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.sampling import IMAGES_KEPT
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS, AnyRun
from skiptune.samplers import initial_noise, make_sampler
from skiptune.samplers.sample import sample


@dataclass(frozen=True)
class PromptRun:
    """One image of every prompt and split. Stored for every image: ``score``, ``features``, ``nfe``; of an
    intervention also ``distance``, that of the features to those of the untouched image of equal noise.

    Attributes:
        intervention: settings of an intervention, or those of ``acting.py``.
        source: what finds importance or weights, for an intervention that needs them.
    """

    model: ModelRef
    prompts: PromptList
    guidance: Guidance
    sampler: Mapping[str, Any]
    intervention: Mapping[str, Any]
    scorer: ScorerRef
    features: ExtractorRef
    micro_batch: int
    device: str
    source: RankingRun | EquationRun | None = None

    def resolved(self) -> dict[str, Any]:
        source = {} if self.source is None else {"source": self.source.resolved()}
        return {
            "kind": "prompt images",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "prompts": self.prompts.identity,
            "guidance": self.guidance.identity,
            "sampler": sampler_identity(self.sampler),
            "intervention": named_acting(self.intervention),
            "scorer": self.scorer.identity,
            "features": self.features.identity,
            "chunk": CHUNK,
            "micro_batch": self.micro_batch,
            "device": self.device,
            **source,
        }

    @property
    def untouched(self) -> PromptRun:
        """The same without intervention."""
        return replace(self, intervention=NONE, source=None)

    @property
    def inputs(self) -> Mapping[str, AnyRun]:
        found: dict[str, AnyRun] = {}
        if named_acting(self.intervention) != NONE:
            found["untouched"] = self.untouched
        if self.source is not None:
            found["source"] = self.source
        return found

    def build(self, seeds: range, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Raises SkiptuneError for NaN or infinity in an image."""
        numbers, prompts = self.prompts.numbers(seeds), self.prompts.prompts(seeds)
        texts = [self.prompts.texts[j] for j in prompts]
        made = prompted_model(self.model, self.device, texts, self.guidance)
        found = None if self.source is None else inputs["source"][self.source.stored]
        parts: dict[str, list[Tensor]] = {"score": [], "features": [], "nfe": [], "images": []}
        for start in range(numbers.start, numbers.stop, self.micro_batch):
            batch = numbers[start - numbers.start :][: self.micro_batch]
            rows = range(batch.start - numbers.start, batch.stop - numbers.start)
            own = None if found is None else found[rows.start : rows.stop]
            for name, value in self.batch(made, batch, prompts.start, own).items():
                parts[name].append(value)
        chunk = {name: torch.cat(values) for name, values in parts.items()}
        chunk["images"] = chunk["images"][:IMAGES_KEPT].contiguous()
        if "untouched" in inputs:
            chunk["distance"] = (chunk["features"] - inputs["untouched"]["features"]).norm(dim=1).double()
        return chunk

    def batch(self, made: PromptedModel, numbers: range, first: int, own: Tensor | None) -> dict[str, Tensor]:
        """Of the images of these numbers; ``first`` is the first prompt that ``made`` has, ``own``
        what was found of them."""
        texts = [self.prompts.text(number) for number in numbers]
        denoiser = made.of([number // 2 - first for number in numbers])
        noise, _ = initial_noise([self.prompts.noise_seed(n) for n in numbers], denoiser.image_shape)
        sampler = make_sampler(**self.sampler).fitted(denoiser)
        with acting_on(denoiser, self.intervention, sampler.sigmas.tolist(), own):
            x = sample(sampler, denoiser, noise.to(made.device))
        images = made.decode(x)
        if (error := not_finite(images, numbers, self.intervention)) is not None:
            raise error
        uint8 = to_uint8(images, self.model.rounding)
        return {
            "score": cached_scorer(self.scorer, self.device)(uint8, texts).double(),
            "features": cached_extractor(self.features, self.device)(uint8)["features"],
            "nfe": torch.full((len(numbers),), float(denoiser.nfe)),
            "images": uint8.cpu(),
        }


@lru_cache(maxsize=2)
def cached_scorer(scorer: ScorerRef, device: str) -> ImageTextScorer:
    """The scorer on its device."""
    return scorer.load(device)
