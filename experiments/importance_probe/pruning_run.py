"""Images of one prompt with blocks skipped, and fine-tuned students: the runs behind Figure 3."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.importance_probe.ranking_run import RankingRun, plain
from skiptune.checkpoints.models import ModelRef
from skiptune.data.images import to_uint8
from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.perceptual import load_lpips
from skiptune.importance import ranked_strategies
from skiptune.interventions.blocks import AttentionPruning, find_transformer_blocks, skipping
from skiptune.interventions.replaced_weights import replaced_weights
from skiptune.runtime.generation import not_finite, sampler_identity
from skiptune.runtime.networks import cached_extractor
from skiptune.runtime.prompted import PromptedModel, prompted_model
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.sampling import IMAGES_KEPT
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS, AnyRun
from skiptune.samplers import initial_noise, make_sampler
from skiptune.samplers.sample import sample
from skiptune.training.pruned_student import FineTuning, fine_tuned

WHOLE: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Strategy:
    """Which blocks are skipped at which step.

    Attributes:
        blocks: numbers for every step, none for the whole network; of a ranked strategy unused.
        ranking: where the order of the blocks comes from; ``skip`` of them go at every step, in the
            ``choice``-th combination of ``ranked_strategies``.
    """

    blocks: tuple[tuple[int, ...], ...] = WHOLE
    ranking: RankingRun | None = None
    skip: int = 0
    choice: int = 0

    def resolved(self) -> dict[str, Any]:
        if self.ranking is None:
            return {"blocks": plain(self.blocks)}
        return {"ranking": self.ranking.resolved(), "skip": self.skip, "choice": self.choice}

    def blocks_of(self, inputs: Mapping[str, Mapping[str, Tensor]]) -> tuple[tuple[int, ...], ...]:
        """The numbers for every step. Raises SkiptuneError for a choice that there is not."""
        if self.ranking is None:
            return self.blocks
        scores, numbers = inputs["ranking"]["scores"][0], inputs["ranking"]["numbers"][0].tolist()
        order = scores.argsort(dim=-1, stable=True).tolist()
        every = ranked_strategies([[numbers[i] for i in step] for step in order], self.skip)
        if not 0 <= self.choice < len(every):
            raise SkiptuneError(f"there is no ranked strategy {self.choice}: there are {len(every)}")
        return every[self.choice]


@dataclass(frozen=True)
class StudentRun:
    """Stored: the fine-tuned transformers of a pruned student, by their names in the network."""

    model: ModelRef
    prompt: str
    sampler: Mapping[str, Any]
    strategy: Strategy
    tuning: FineTuning
    device: str

    def resolved(self) -> dict[str, Any]:
        return {
            "kind": "pruned student",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "prompt": self.prompt,
            "sampler": sampler_identity(self.sampler),
            "strategy": self.strategy.resolved(),
            "tuning": vars(self.tuning),
            "chunk": CHUNK,
            "device": self.device,
        }

    @property
    def inputs(self) -> Mapping[str, AnyRun]:
        return {} if self.strategy.ranking is None else {"ranking": self.strategy.ranking}

    def build(self, seeds: range, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        made = prompted_model(self.model, self.device, [self.prompt])
        blocks = self.strategy.blocks_of(inputs)
        return fine_tuned(made.denoiser, made.inputs, blocks, self.sampler, self.tuning)


@dataclass(frozen=True)
class PruningRun:
    """Stored for every image: ``features``, ``nfe``; of a pruned network also ``distance`` of the features to
    those of the whole network's image of equal noise, or LPIPS of the images.

    Attributes:
        images: how many; number n has the noise of seed ``first_seed + n``.
        student: fine-tuned transformers in place of the network's own.
        lpips: folder with LPIPS's weights and their digest, to measure the distance of the images themselves,
            for which the run of the whole network stores all of its images; else it is that of the features.
    """

    model: ModelRef
    prompt: str
    sampler: Mapping[str, Any]
    strategy: Strategy
    features: ExtractorRef
    images: int
    first_seed: int
    micro_batch: int
    device: str
    student: StudentRun | None = None
    lpips: tuple[Path, str] | None = None

    def resolved(self) -> dict[str, Any]:
        lpips = {} if self.lpips is None else {"lpips": self.lpips[1]}
        student = {} if self.student is None else {"student": self.student.resolved()}
        return {
            "kind": "pruned images",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "prompt": self.prompt,
            "sampler": sampler_identity(self.sampler),
            "strategy": self.strategy.resolved(),
            "features": self.features.identity,
            "images": self.images,
            "first_seed": self.first_seed,
            "chunk": CHUNK,
            "micro_batch": self.micro_batch,
            "device": self.device,
            **student,
            **lpips,
        }

    @property
    def whole(self) -> PruningRun:
        """The same without pruning."""
        return replace(self, strategy=Strategy(), student=None)

    @property
    def kept_whole(self) -> bool:
        """Whether all images are stored: those that LPIPS of the pruned ones is measured from."""
        return self.lpips is not None and self.strategy == Strategy()

    @property
    def inputs(self) -> Mapping[str, AnyRun]:
        found: dict[str, AnyRun] = {}
        if self.strategy != Strategy():
            found["whole"] = self.whole
        if self.strategy.ranking is not None:
            found["ranking"] = self.strategy.ranking
        if self.student is not None:
            found["student"] = self.student
        return found

    def build(self, seeds: range, inputs: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Raises SkiptuneError for NaN or infinity in an image."""
        made = prompted_model(self.model, self.device, [self.prompt])
        blocks = self.strategy.blocks_of(inputs)
        numbers = range(seeds.start, min(seeds.stop, self.images))
        with replaced_weights(made.denoiser, inputs.get("student", {})):
            chunk = self.sampled(made, numbers, blocks)
        if "whole" in inputs:
            chunk["distance"] = self.distance(chunk, inputs["whole"])
        kept = len(numbers) if self.kept_whole else IMAGES_KEPT
        return {**chunk, "images": chunk["images"][:kept].contiguous()}

    def distance(self, own: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> Tensor:
        """From the whole network's images, ``[N]`` float64."""
        if self.lpips is None:
            return (own["features"] - whole["features"]).norm(dim=1).double()
        return load_lpips(folder=self.lpips[0], device=self.device)(own["images"], whole["images"]).double()

    def sampled(
        self, made: PromptedModel, numbers: range, blocks: Sequence[Sequence[int]]
    ) -> dict[str, Tensor]:
        """Images of these numbers with blocks skipped at every step, with their features."""
        features, images, calls = [], [], []
        for start in range(0, len(numbers), self.micro_batch):
            batch = numbers[start : start + self.micro_batch]
            denoiser = made.of([0] * len(batch))
            sampler = make_sampler(**self.sampler).fitted(denoiser)
            noise, _ = initial_noise([self.first_seed + n for n in batch], denoiser.image_shape)
            with pruned(denoiser, blocks, tuple(sampler.sigmas[:-1].tolist())):
                x = sample(sampler, denoiser, noise.to(made.device))
            decoded = made.decode(x)
            if (error := not_finite(decoded, batch, self.strategy.resolved())) is not None:
                raise error
            images.append(to_uint8(decoded, self.model.rounding))
            features.append(cached_extractor(self.features, self.device)(images[-1])["features"])
            calls.append(torch.full((len(batch),), float(denoiser.nfe)))
        return {
            "features": torch.cat(features),
            "nfe": torch.cat(calls),
            "images": torch.cat(images).cpu(),
        }


def pruned(
    denoiser: Denoiser, blocks: Sequence[Sequence[int]], levels: tuple[float, ...]
) -> contextlib.AbstractContextManager[object]:
    """Skip these blocks; none of them leaves the network as it is."""
    if not blocks:
        return contextlib.nullcontext()
    mask = skipping(find_transformer_blocks(denoiser), blocks)
    return AttentionPruning(mask, levels).attached_to(denoiser)
