"""Training of the desk classifiers: cross-entropy, AdamW, cosine decay; weights and record side by side."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skiptune.checkpoints.desk import DESK_FOLDER
from skiptune.checkpoints.weights import safetensors_bytes
from skiptune.data import Dataset, load_dataset
from skiptune.data.images import from_uint8
from skiptune.errors import SkiptuneError
from skiptune.evaluation.classifiers import ARCHITECTURES
from skiptune.runtime.files import digest, write_atomic
from skiptune.runtime.provenance import commit, device_name, package_versions
from skiptune.training.augmentation import random_affine
from skiptune.training.fields import check_types

OnStep = Callable[[int, int, float], None]
CURVE_POINTS = 100


@dataclass(frozen=True)
class ClassifierTraining:
    """Everything that determines a classifier: the defaults suit glyphs, which are rendered endlessly.

    `images` training images (at most the size of split `features`) are rendered once and kept in memory.
    Shift (pixels), rotation (degrees) and scale (relative) bound the random augmentation.
    """

    name: str
    dataset: str
    architecture: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    images: int = 100_000
    heldout_images: int = 2_000
    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    shift: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(vars(self), ClassifierTraining)

    @classmethod
    def desk(cls, name: str, **changes: Any) -> ClassifierTraining:
        """Settings of a shipped extractor, `<glyphs|digits>_<cnn|resnet|vit>`, with changes.

        Raises SkiptuneError for another name.
        """
        dataset, _, kind = name.partition("_")
        architectures = {"cnn": "DeskCNN", "resnet": "DeskResNet", "vit": "DeskViT"}
        if dataset not in _DESK or kind not in architectures:
            raise SkiptuneError(f"no desk classifier '{name}': the name is <glyphs|digits>_<cnn|resnet|vit>")
        settings = _DESK[dataset] | {"dataset": dataset, "architecture": architectures[kind]} | changes
        return cls(name=name, **settings)


_DESK: dict[str, dict[str, Any]] = {
    "glyphs": {},
    "digits": {"epochs": 100, "batch_size": 64, "shift": 0.75, "rotation": 12.0, "scale": 0.1},
}


@dataclass(frozen=True)
class TrainedClassifier:
    """A network in evaluation mode, its weights rounded to float16, and the record of its training."""

    network: nn.Module
    kwargs: dict[str, Any]
    record: dict[str, Any]


def train_classifier(settings: ClassifierTraining, on_step: OnStep | None = None) -> TrainedClassifier:
    """Train as the settings say; equal settings give equal weights on one kind of device and thread count.

    `on_step(step, total, loss)` is called after every step. Raises SkiptuneError for unknown names and
    settings that do not fit the data set.
    """
    start, started_at = time.monotonic(), commit()  # of the code that runs, not of the end
    if settings.architecture not in ARCHITECTURES:
        raise SkiptuneError(
            f"unknown architecture '{settings.architecture}': choose one of {', '.join(ARCHITECTURES)}"
        )
    dataset = load_dataset(settings.dataset)
    count = min(settings.images, dataset.size("features"))
    if not 1 <= settings.batch_size <= count or settings.epochs < 1:
        raise SkiptuneError(
            f"no step in {settings.epochs} epochs of {count} images in batches of {settings.batch_size}"
            ": set epochs >= 1 and a smaller batch"
        )
    images, labels = dataset.batch(range(count), "features")
    kwargs = {
        "in_channels": dataset.image_shape[0],
        "resolution": dataset.image_shape[1],
        "num_classes": dataset.num_classes,
        **settings.kwargs,
    }
    with torch.random.fork_rng(devices=[]):  # the initial weights come from the global generator
        torch.manual_seed(settings.seed)
        network = ARCHITECTURES[settings.architecture](**kwargs)
    curve = _fit(network, images, labels, settings, on_step)
    network.half().float().eval().requires_grad_(False)  # what is saved is what is evaluated
    heldout = range(min(settings.heldout_images, dataset.size("heldout")))
    record = {
        "name": settings.name,
        "architecture": settings.architecture,
        "kwargs": kwargs,
        "dataset": settings.dataset,
        "settings": dataclasses.asdict(settings),
        "seed": settings.seed,
        "commit": started_at,
        "packages": package_versions(),
        "device": device_name("cpu"),
        "parameters": sum(p.numel() for p in network.parameters()),
        "training_images": count,
        "heldout_images": len(heldout),
        "heldout_accuracy": _accuracy(network, dataset, heldout),
        "duration_seconds": round(time.monotonic() - start, 1),
        "loss_curve": curve,
    }
    return TrainedClassifier(network, kwargs, record)


def train_and_save(
    settings: ClassifierTraining, folder: Path = DESK_FOLDER, on_step: OnStep | None = None
) -> dict[str, Any]:
    """Train, write `<name>.safetensors` (float16) and `<name>.json` (record, sha256), return the record."""
    trained = train_classifier(settings, on_step)
    header = {"architecture": settings.architecture, "kwargs": json.dumps(trained.kwargs, sort_keys=True)}
    state = {key: value.half().contiguous() for key, value in trained.network.state_dict().items()}
    weights = safetensors_bytes(state, header)
    record = {**trained.record, "sha256": digest(weights)}
    write_atomic(folder / f"{settings.name}.safetensors", weights)
    write_atomic(folder / f"{settings.name}.json", json.dumps(record, indent=1) + "\n")
    return record


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear rise over the share `warmup` of the steps, then half a cosine from 1 towards 0."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def _fit(
    network: nn.Module, images: Tensor, labels: Tensor, settings: ClassifierTraining, on_step: OnStep | None
) -> list[list[float]]:
    generator = torch.Generator().manual_seed(settings.seed)
    total = settings.epochs * (len(images) // settings.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, total, settings.warmup)
    )
    every = max(1, total // CURVE_POINTS)
    curve: list[list[float]] = []
    recent: list[float] = []
    network.train()
    for step, rows in enumerate(_batches(len(images), settings, generator), start=1):
        x = random_affine(
            from_uint8(images[rows]), generator, settings.shift, settings.rotation, settings.scale
        )
        loss = F.cross_entropy(network(x)["logits"], labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % every == 0 or step == total:
            curve.append([step, round(sum(recent) / len(recent), 5)])
            recent.clear()
        if on_step is not None:
            on_step(step, total, loss.item())
    return curve


def _batches(count: int, settings: ClassifierTraining, generator: torch.Generator) -> Iterator[Tensor]:
    for _ in range(settings.epochs):
        order = torch.randperm(count, generator=generator)
        yield from order[: count - count % settings.batch_size].split(settings.batch_size)


@torch.no_grad()
def _accuracy(network: nn.Module, dataset: Dataset, seeds: range) -> float:
    images, labels = dataset.batch(seeds, "heldout")
    hits = [
        network(from_uint8(x))["logits"].argmax(1) == y
        for x, y in zip(images.split(256), labels.split(256), strict=True)
    ]
    return float(torch.cat(hits).double().mean())
