"""A sampling run: images of numbered seeds from one network, intervention and sampler, kept as features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from skiptune.checkpoints.models import ModelRef
from skiptune.data.images import to_uint8
from skiptune.denoisers import Denoiser
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.features import FeatureSet
from skiptune.interventions.build import complete_settings, is_neutral
from skiptune.runtime.memory import saying_what_fits
from skiptune.runtime.networks import cached_extractor, cached_model, compiled_model
from skiptune.runtime.precision import check_precision, in_precision
from skiptune.runtime.provenance import device as usable_device
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS, read_chunks
from skiptune.runtime.store import Run
from skiptune.runtime.together import sample_together
from skiptune.samplers import Sampler, initial_noise, known_settings, make_sampler, step_noise
from skiptune.samplers.registry import REQUIRED

IMAGES_KEPT = 16  # the first images of every chunk are stored for grids


@dataclass(frozen=True)
class SamplingSettings:
    """What is sampled and how; one row of a table, one point of a sweep.

    Attributes:
        sampler: ``{"name": ..., settings}``; defaults are written out when the run is opened.
        intervention: ``{"name": ..., settings}``, likewise.
        features: the feature extractor that sees the images.
        micro_batch: images per network call; part of the identity, because kernels choose algorithms by it.
        device: ``cpu`` or ``cuda``; results agree across kinds of devices within rounding, not in bits.
        noise_device: where initial noise is drawn; ``cuda`` reproduces EDM's published images.
        precision: of the network's products, a latent model's decoder included (``PRECISIONS``); features are
            always taken in fp32.
        compile: compile the network's blocks (``compile_blocks``); for GPUs, where the same run agrees within
            rounding, not in bits, if kernels are chosen by their time.
    """

    model: ModelRef
    sampler: Mapping[str, Any]
    intervention: Mapping[str, Any]
    features: ExtractorRef
    micro_batch: int = 125
    device: str = "cpu"
    noise_device: str = "cpu"
    precision: str = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        if type(self.micro_batch) is not int or self.micro_batch < 1:
            raise SkiptuneError(f"micro_batch is {self.micro_batch!r}, it must be a whole number from 1")
        if self.noise_device not in ("cpu", "cuda"):
            raise SkiptuneError(f"unknown noise_device {self.noise_device!r}: use cpu or cuda")
        check_precision(self.precision, self.device)
        if type(self.compile) is not bool:
            raise SkiptuneError(f"compile is {self.compile!r}, it must be true or false")

    def resolved(self) -> dict[str, Any]:
        """Plain values that name the run. Raises SkiptuneError for anything unknown or out of range."""
        return {
            "kind": "sampling",
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "sampler": sampler_identity(self.sampler),
            "intervention": named_intervention(self.intervention),
            "features": self.features.identity,
            "chunk": CHUNK,
            "micro_batch": self.micro_batch,
            "device": self.device,
            "noise_device": self.noise_device,
            # Plain runs keep the names that they had before there was a choice.
            **({} if self.precision == "fp32" else {"precision": self.precision}),
            **({"compile": True} if self.compile else {}),
        }

    def compute(self, seeds: range) -> dict[str, Tensor]:
        """Features ``[N, d]``, logits ``[N, K]``, labels ``[N]`` if conditional, first images, NFE ``[]``.

        Raises:
            SkiptuneError: NaN or infinity in an image.
        """
        (chunk,) = compute_chunks([self], seeds)
        if isinstance(chunk, SkiptuneError):
            raise chunk
        return chunk


def named_sampler(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings. Raises SkiptuneError for unknown names, wrong types and impossible values."""
    known = known_settings(settings.get("name", ""))
    given = {
        key: of_kind(key, value, known[key]) if key in known else value for key, value in settings.items()
    }
    make_sampler(**given)
    return {"name": given["name"], **known, **given}


def sampler_identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``named_sampler`` as what names a run: JSON has no infinity."""
    return {key: "inf" if value == float("inf") else value for key, value in named_sampler(settings).items()}


def of_kind(name: str, value: Any, default: Any) -> Any:
    """The value if it has the default's type; a whole number will do for a float, 80 and 80.0 are one run."""
    kind = int if default is REQUIRED else type(default)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        what = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a name")
        raise SkiptuneError(f"sampler.{name} is {value!r}, it must be {what}")
    return value


def named_intervention(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings; what changes no bit (Skip-Tuning with rho = 1) is the run without intervention."""
    complete = complete_settings(settings)
    return {"name": "none"} if is_neutral(complete) else complete


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
    denoiser = network_of(settings)
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


def network_of(settings: SamplingSettings) -> Denoiser:
    """The network that a run samples from."""
    return (compiled_model if settings.compile else cached_model)(settings.model, settings.device)


@torch.inference_mode()
def sample_images(
    denoiser: Denoiser,
    sampler: Sampler,
    interventions: Sequence[Mapping[str, Any]],
    seeds: range,
    noise_device: str = "cpu",
) -> tuple[list[tuple[Tensor, int]], Tensor | None]:
    """For every intervention decoded images ``[N, C, H, W]`` of these seeds, and network evaluations.

    One batch; the labels ``[N]`` come with them. Raises SkiptuneError as the sampler and interventions do.
    """
    device = next(denoiser.parameters()).device
    if noise_device == "cuda":
        usable_device(noise_device)  # one clear line where there is no GPU
    noise, labels = initial_noise(seeds, denoiser.image_shape, denoiser.num_classes, noise_device)
    noise = noise.to(device).contiguous(memory_format=torch.channels_last)
    condition = None if labels is None else F.one_hot(labels.to(device), denoiser.num_classes).float()

    def noise_at(step: int) -> Tensor:
        return step_noise(seeds, step, denoiser.image_shape, device)

    found = sample_together(sampler, denoiser, interventions, noise, condition, noise_at)
    if isinstance(denoiser, LatentDenoiser):
        found = [(denoiser.decode(x), calls) for x, calls in found]
    return found, labels


def not_finite(x: Tensor, seeds: range, intervention: Mapping[str, Any]) -> SkiptuneError | None:
    """What to say of NaN or infinity in images ``[N, C, H, W]`` of these seeds, if there is any."""
    finite = torch.isfinite(x).flatten(1).all(dim=1)
    if finite.all():
        return None
    bad = [seed for seed, good in zip(seeds, finite.tolist(), strict=True) if not good]
    return SkiptuneError(
        f"{len(bad)} of {len(seeds)} images contain NaN or infinity (first seed {bad[0]}): the network's "
        f"output is not finite; check its weights and the intervention {dict(intervention)}"
    )


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
