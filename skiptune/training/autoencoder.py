"""Training of the desk autoencoder, whose latents a desk latent diffusion model is trained on."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skiptune.checkpoints.desk import DESK_FOLDER, save_desk_autoencoder
from skiptune.data import Dataset, load_dataset
from skiptune.data.images import from_uint8
from skiptune.denoisers.autoencoders import KLAutoencoder, build_autoencoder
from skiptune.errors import SkiptuneError
from skiptune.runtime.provenance import commit, device_name, package_versions
from skiptune.runtime.workers import one_thread
from skiptune.training.fields import check_types
from skiptune.training.losses.autoencoder import autoencoder_loss

OnStep = Callable[[int, int, float], None]
CURVE_POINTS = 100


@dataclass(frozen=True)
class AutoencoderTraining:
    """Everything that determines an autoencoder; one process with one thread.

    Attributes:
        autoencoder: ``{"class": "KLAutoencoder", "kwargs": {...}}``.
        images: of split ``train``, whole batches, one seed after the other.
        learning_rate: Adam; linear warm-up over ``warmup_images``, then half a cosine to 0.
        kl_weight: of the KL term, both terms being means over elements.
        heldout_images: of split ``heldout``, which the record's numbers come from.
        precision: ``fp32``, or ``bf16`` for autocast with fp32 weights.
        compile: compile encoder and decoder; needs a C++ compiler.
    """

    name: str
    autoencoder: dict[str, Any]
    dataset: str
    images: int
    batch: int = 128
    learning_rate: float = 1e-3
    warmup_images: int = 10_000
    kl_weight: float = 1e-4
    heldout_images: int = 2_000
    seed: int = 0
    precision: str = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        check_types(vars(self), AutoencoderTraining)
        if not 1 <= self.batch <= self.images:
            raise SkiptuneError(f"no step in {self.images} images in batches of {self.batch}; change one")
        if self.heldout_images < 1:
            raise SkiptuneError(f"heldout_images is {self.heldout_images}; it must be 1 or more")
        if self.precision not in ("fp32", "bf16"):
            raise SkiptuneError(f"precision {self.precision!r} is unknown; choose fp32 or bf16")

    @property
    def steps(self) -> int:
        return self.images // self.batch

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of the step after ``step`` steps."""
        up = min(1.0, (step + 1) * self.batch / max(self.warmup_images, 1))
        return self.learning_rate * up * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class TrainedAutoencoder:
    """A network in evaluation mode, its weights rounded to float16, and the record of its training.

    ``scale`` makes the latents' standard deviation 1 on the held-out images.
    """

    network: KLAutoencoder
    scale: float
    record: dict[str, Any] = field(repr=False)


def train_autoencoder(settings: AutoencoderTraining, on_step: OnStep | None = None) -> TrainedAutoencoder:
    """Train as the settings say; ``on_step(step, total, loss)`` is called after every step.

    Raises:
        SkiptuneError: an autoencoder without a posterior, or one for images of another shape; a loss that is
            not finite.
    """
    started, started_at = time.perf_counter(), commit()  # of the code that runs, not of the end
    dataset = load_dataset(settings.dataset)
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(settings.seed)
        network = _built(settings.autoencoder)
        if network.image_shape != dataset.image_shape:
            shapes = f"{list(network.image_shape)}, {settings.dataset} has {list(dataset.image_shape)}"
            raise SkiptuneError(f"the autoencoder takes images {shapes}; change its ddconfig")
        curve = _fit(network, dataset, settings, on_step)
        evaluated = _built(settings.autoencoder)  # not compiled
        evaluated.load_state_dict(network.half().state_dict())  # what is saved is what is evaluated
        evaluated.eval().requires_grad_(False)
        quality = reconstruction_quality(evaluated, dataset, settings.heldout_images)
    record = {
        "settings": dataclasses.asdict(settings),
        "commit": started_at,
        "packages": package_versions(),
        "device": device_name("cpu"),
        "duration_seconds": round(time.perf_counter() - started, 1),
        "parameters": sum(p.numel() for p in network.parameters()),
        **quality,
        "loss_curve": curve,
    }
    return TrainedAutoencoder(evaluated, 1 / quality["latent_std"], record)


def train_and_save_autoencoder(
    settings: AutoencoderTraining, folder: Path = DESK_FOLDER, on_step: OnStep | None = None
) -> dict[str, Any]:
    """Train, write weights and record to ``folder``, return the record."""
    trained = train_autoencoder(settings, on_step)
    state = trained.network.state_dict()
    save_desk_autoencoder(settings.name, settings.autoencoder, state, trained.record, folder)
    return trained.record


@torch.no_grad()
def reconstruction_quality(network: KLAutoencoder, dataset: Dataset, images: int) -> dict[str, float]:
    """PSNR in dB of held-out images (their range is 2), and mean and deviation of the latents' elements."""
    count = min(images, dataset.size("heldout"))
    clean = from_uint8(dataset.batch(range(count), "heldout")[0])
    latents = torch.cat([network.encode(part) for part in clean.split(256)])
    error = [
        (network.decode(z) - x).square().flatten(1).mean(1)
        for z, x in zip(latents.split(256), clean.split(256), strict=True)
    ]
    psnr = 10 * (4 / torch.cat(error).double()).log10().mean()
    mean, deviation = latents.double().mean(), latents.double().std()
    return {"heldout_psnr": float(psnr), "latent_mean": float(mean), "latent_std": float(deviation)}


def _built(description: dict[str, Any]) -> KLAutoencoder:
    network = build_autoencoder(description)
    if not isinstance(network, KLAutoencoder):
        raise SkiptuneError(f"{type(network).__name__} has no posterior; train a KLAutoencoder")
    return network


def _fit(
    network: KLAutoencoder, dataset: Dataset, settings: AutoencoderTraining, on_step: OnStep | None
) -> list[list[float]]:
    network.to(memory_format=torch.channels_last).train()
    if settings.compile:
        network.encoder.compile(dynamic=False)
        network.decoder.compile(dynamic=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    generator = torch.Generator().manual_seed(settings.seed)
    every = max(1, settings.steps // CURVE_POINTS)
    curve: list[list[float]] = []
    recent: list[float] = []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(step)
        images = _batch(dataset, range(step * settings.batch, (step + 1) * settings.batch))
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = autoencoder_loss(network, images, settings.kl_weight, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        recent.append(loss.item())
        if not math.isfinite(recent[-1]):
            raise SkiptuneError(f"the loss is not finite at step {step + 1}; lower the learning rate")
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            curve.append([(step + 1) * settings.batch, round(sum(recent) / len(recent), 6)])
            recent.clear()
        if on_step is not None:
            on_step(step + 1, settings.steps, loss.item())
    return curve


def _batch(dataset: Dataset, seeds: range) -> Tensor:
    return from_uint8(dataset.batch(seeds, "train")[0]).contiguous(memory_format=torch.channels_last)
