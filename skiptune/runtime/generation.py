"""Images of numbered seeds from one network, intervention and sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from skiptune.checkpoints.models import ModelRef
from skiptune.denoisers import Denoiser
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions.build import complete_settings, is_neutral
from skiptune.runtime.networks import cached_model, compiled_model
from skiptune.runtime.precision import check_precision
from skiptune.runtime.provenance import device as usable_device
from skiptune.runtime.provenance import torch_release
from skiptune.runtime.seed_chunks import NUMERICS
from skiptune.runtime.together import sample_together
from skiptune.samplers import Sampler, initial_noise, known_settings, make_sampler, step_noise
from skiptune.samplers.registry import REQUIRED


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What images of numbered seeds are made with.

    Attributes:
        sampler: ``{"name": ..., settings}``; defaults are written out in the ``identity``.
        intervention: ``{"name": ..., settings}``, likewise.
        micro_batch: images per network call; part of the identity, because kernels choose algorithms by it.
        device: ``cpu`` or ``cuda``; results agree across kinds of devices within rounding, not in bits.
        noise_device: where initial noise is drawn; ``cuda`` reproduces EDM's published images.
        precision: of the network's products, a latent model's decoder included (``PRECISIONS``).
        compile: compile the network's blocks (``compile_blocks``); for GPUs, where the same run agrees within
            rounding, not in bits, if kernels are chosen by their time.
    """

    model: ModelRef
    sampler: Mapping[str, Any]
    intervention: Mapping[str, Any]
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

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that determine the images. Raises SkiptuneError: unknown, or out of range."""
        return {
            "numerics": NUMERICS,
            "torch": torch_release(),
            "model": self.model.identity,
            "sampler": sampler_identity(self.sampler),
            "intervention": named_intervention(self.intervention),
            "micro_batch": self.micro_batch,
            "device": self.device,
            "noise_device": self.noise_device,
            # Plain runs keep the names that they had before there was a choice.
            **({} if self.precision == "fp32" else {"precision": self.precision}),
            **({"compile": True} if self.compile else {}),
        }

    @property
    def network(self) -> Denoiser:
        """The network that the images come from, loaded once in a process."""
        return (compiled_model if self.compile else cached_model)(self.model, self.device)


def named_sampler(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Complete settings. Raises SkiptuneError for unknown names, wrong types and impossible values."""
    known = known_settings(settings.get("name", ""))
    given = {
        key: of_kind(key, value, known[key]) if key in known else value for key, value in settings.items()
    }
    make_sampler(**given)
    return {"name": given["name"], **known, **given}


def sampler_identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``named_sampler`` as what names a run."""
    return without_infinity(named_sampler(settings))


def without_infinity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings in JSON, which has no infinity."""
    return {key: "inf" if value == float("inf") else value for key, value in settings.items()}


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


@torch.inference_mode()
def sample_images(
    denoiser: Denoiser,
    sampler: Sampler,
    interventions: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    noise_device: str = "cpu",
    class_label: int | None = None,
) -> tuple[list[tuple[Tensor, int]], Tensor | None]:
    """For every intervention decoded images ``[N, C, H, W]`` of these seeds, and network evaluations.

    One batch; the labels ``[N]``, drawn from the seeds unless all have the ``class_label``, come with them.

    Raises:
        SkiptuneError: a class that there is not; as the sampler and interventions do.
    """
    device = next(denoiser.parameters()).device
    if noise_device == "cuda":
        usable_device(noise_device)  # one clear line where there is no GPU
    noise, labels = initial_noise(seeds, denoiser.image_shape, denoiser.num_classes, noise_device)
    if class_label is not None:
        if not 0 <= class_label < denoiser.num_classes:
            raise SkiptuneError(f"class {class_label} is none of the network's {denoiser.num_classes}")
        labels = torch.full((len(seeds),), class_label)
    noise = noise.to(device).contiguous(memory_format=torch.channels_last)
    condition = None if labels is None else F.one_hot(labels.to(device), denoiser.num_classes).float()

    def noise_at(step: int) -> Tensor:
        return step_noise(seeds, step, denoiser.image_shape, device)

    found = sample_together(sampler, denoiser, interventions, noise, condition, noise_at)
    if isinstance(denoiser, LatentDenoiser):
        found = [(denoiser.decode(x), calls) for x, calls in found]
    return found, labels


def not_finite(x: Tensor, seeds: Sequence[int], intervention: Mapping[str, Any]) -> SkiptuneError | None:
    """What to say of NaN or infinity in images ``[N, C, H, W]`` of these seeds, if there is any."""
    finite = torch.isfinite(x).flatten(1).all(dim=1)
    if finite.all():
        return None
    bad = [seed for seed, good in zip(seeds, finite.tolist(), strict=True) if not good]
    return SkiptuneError(
        f"{len(bad)} of {len(seeds)} images contain NaN or infinity (first seed {bad[0]}): the network's "
        f"output is not finite; check its weights and the intervention {dict(intervention)}"
    )
