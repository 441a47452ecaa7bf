"""A sampling run: images of numbered seeds from one network, intervention and sampler, kept as features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skiptune.checkpoints.outline import outline_of
from skiptune.data.images import to_uint8
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.features import FeatureSet
from skiptune.runtime.generation import Generation, not_finite, sample_images
from skiptune.runtime.memory import saying_what_fits
from skiptune.runtime.networks import cached_extractor
from skiptune.runtime.precision import in_precision
from skiptune.runtime.seed_chunks import CHUNK, read_chunks
from skiptune.runtime.store import Run
from skiptune.samplers import make_sampler

IMAGES_KEPT = 16  # the first images of every chunk are stored for grids


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Generation):
    """What is sampled and how; one row of a table, one point of a sweep.

    Attributes:
        features: the feature extractor that sees the images, always in fp32.
    """

    features: ExtractorRef

    def resolved(self) -> dict[str, Any]:
        """Plain values that name the run. Raises SkiptuneError for anything unknown or out of range."""
        return {**self.identity, "kind": "sampling", "features": self.features.identity, "chunk": CHUNK}

    def check(self) -> None:
        """Whether features and model fit, before anything is loaded.

        Raises:
            SkiptuneError: features of other images than the model makes; a model that needs prompts.
        """
        name, outline, taken = self.model.name, outline_of(self.model), self.features.image_shape
        if outline.text:
            raise SkiptuneError(
                f"{name} makes images of prompts: make them with scripts/sample.py and measure the folder "
                "with scripts/evaluate.py"
            )
        made = outline.images
        if made is not None and (made[0] != 3 if taken is None else made != taken):
            wanted = "RGB images" if taken is None else f"images {list(taken)}"
            raise SkiptuneError(
                f"model {name} makes images {list(made)}, features {self.features.name} are of {wanted}: "
                "choose other features"
            )

    def compute(self, seeds: range) -> dict[str, Tensor]:
        """Features ``[N, d]``, logits ``[N, K]``, labels ``[N]`` if conditional, first images, NFE ``[]``.

        Raises:
            SkiptuneError: NaN or infinity in an image.
        """
        (chunk,) = compute_chunks([self], seeds)
        if isinstance(chunk, SkiptuneError):
            raise chunk
        return chunk


def compute_chunks(
    conditions: Sequence[SamplingSettings], seeds: range
) -> list[dict[str, Tensor] | SkiptuneError]:
    """What ``SamplingSettings.compute`` stores, of conditions that differ in their intervention alone.

    What they share is computed once; the bits are those of separate runs. In place of a condition with NaN or
    infinity in an image stands the error, so that the others are not lost.

    Raises:
        SkiptuneError: out of memory; says which micro-batch to use instead.
    """
    with saying_what_fits(conditions[0].micro_batch, conditions[0].device):
        return _compute_chunks(conditions, seeds)


def _compute_chunks(
    conditions: Sequence[SamplingSettings], seeds: range
) -> list[dict[str, Tensor] | SkiptuneError]:
    settings = conditions[0]
    denoiser = settings.network
    extractor = cached_extractor(settings.features, settings.device)
    sampler = make_sampler(**settings.sampler)
    interventions = [condition.intervention for condition in conditions]
    images: list[list[Tensor]] = [[] for _ in conditions]
    wrong: list[SkiptuneError | None] = [None] * len(conditions)
    evaluations = [0] * len(conditions)
    labels: list[Tensor] = []
    batches = [seeds[i : i + settings.micro_batch] for i in range(0, len(seeds), settings.micro_batch)]
    for batch in batches:
        with in_precision(settings.precision, settings.device):
            found, label = sample_images(denoiser, sampler, interventions, batch, settings.noise_device)
        for number, (x, calls) in enumerate(found):
            wrong[number] = wrong[number] or not_finite(x, batch, interventions[number])
            images[number].append(to_uint8(x, settings.model.rounding))
            evaluations[number] += calls
        labels += [] if label is None else [label.cpu()]
    chunks: list[dict[str, Tensor] | SkiptuneError] = []
    for parts, calls, error in zip(images, evaluations, wrong, strict=True):
        if error is not None:
            chunks.append(error)
            continue
        uint8 = torch.cat(parts)
        chunk = {
            **extractor(uint8),
            "images": uint8[:IMAGES_KEPT].cpu().contiguous(),
            "nfe": torch.tensor(calls / len(batches), dtype=torch.float64),
        }
        chunks.append(chunk | ({"labels": torch.cat(labels)} if labels else {}))
    return chunks


@dataclass(frozen=True)
class Samples:
    """The stored result of a range of seeds: features in seed order, kept images, measured NFE per image."""

    features: FeatureSet
    images: Tensor
    image_labels: Tensor | None
    nfe: float


def read_samples(run: Run, seeds: range) -> Samples:
    """Join the chunks of these seeds in order. Raises SkiptuneError for a missing or damaged chunk."""
    chunks = read_chunks(run, seeds)
    features = FeatureSet.cat([FeatureSet(c["features"], c["logits"], c.get("labels")) for c in chunks])
    labels = [c["labels"][:IMAGES_KEPT] for c in chunks if "labels" in c]
    nfe = {float(c["nfe"]) for c in chunks}
    if len(nfe) != 1:
        raise SkiptuneError(
            f"chunks of run {run.id} differ in NFE ({sorted(nfe)}); delete {run.folder} and run again"
        )
    return Samples(
        features, torch.cat([c["images"] for c in chunks]), torch.cat(labels) if labels else None, nfe.pop()
    )
