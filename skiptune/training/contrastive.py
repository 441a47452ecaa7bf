"""Training of the desk's image-text scorer on rendered pairs (CLIP's loss, Radford et al. 2021)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from skiptune.checkpoints.desk import DESK_FOLDER, save_desk_network
from skiptune.data import PromptedDataset, load_dataset, with_prompts
from skiptune.data.images import from_uint8
from skiptune.data.prompts_of_glyphs import ATTRIBUTES, changed
from skiptune.errors import SkiptuneError
from skiptune.evaluation.image_text import KIND, ImageTextPair, build_pair
from skiptune.runtime.provenance import commit, device_name, package_versions
from skiptune.training.batches import Batches
from skiptune.training.classification import learning_rate_factor
from skiptune.training.fields import check_types
from skiptune.training.prompt_tokens import PromptTokens

OnStep = Callable[[int, int, float], None]
CURVE_POINTS = 100
ASKED = tuple(name for name in ATTRIBUTES if name != "wording")  # what an image can be seen to differ in


@dataclass(frozen=True)
class ContrastiveTraining:
    """Everything that determines a scorer.

    Attributes:
        scorer: ``{"class": "ImageTextPair", "kwargs": {...}}``.
        images: of split ``features``, whole batches, one seed after the other.
        learning_rate: AdamW; linear warm-up over the share ``warmup``, then half a cosine.
        heldout_images: of split ``heldout``, which the record's numbers come from.
    """

    name: str
    scorer: dict[str, Any]
    dataset: str
    images: int
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    heldout_images: int = 1000
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_types(vars(self), ContrastiveTraining)
        if not 2 <= self.batch <= self.images:
            raise SkiptuneError(f"no step in {self.images} images in batches of {self.batch}; change one")

    @property
    def steps(self) -> int:
        return self.images // self.batch


@dataclass(frozen=True)
class TrainedPair:
    """Both encoders in evaluation mode, their weights rounded to float16, and the record of the training."""

    pair: ImageTextPair
    record: dict[str, Any] = field(repr=False)


def train_pair(settings: ContrastiveTraining, on_step: OnStep | None = None, loaders: int = 0) -> TrainedPair:
    """Train as the settings say; ``on_step(step, total, loss)`` is called now and then.

    ``loaders`` processes make its images ahead (see ``training.batches``).

    Raises:
        SkiptuneError: settings that do not fit, a data set without prompts, a loss that is not finite.
    """
    started, started_at = time.perf_counter(), commit()  # of the code that runs, not of the end
    dataset = with_prompts(load_dataset(settings.dataset))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        pair = build_pair(settings.scorer).to(settings.device)
    tokens = PromptTokens(pair.text, dataset)
    curve = fit(pair, tokens, settings, on_step, loaders)
    pair.half().float().eval().requires_grad_(False)  # what is saved is what is evaluated
    record = {
        "settings": dataclasses.asdict(settings),
        "commit": started_at,
        "packages": package_versions(),
        "device": device_name(settings.device),
        "duration_seconds": round(time.perf_counter() - started, 1),
        "parameters": sum(p.numel() for p in pair.parameters()),
        **accuracy(pair, tokens, dataset, settings),
        "loss_curve": curve,
    }
    return TrainedPair(pair.cpu(), record)


def train_and_save_pair(
    settings: ContrastiveTraining,
    folder: Path = DESK_FOLDER,
    on_step: OnStep | None = None,
    loaders: int = 0,
) -> dict[str, Any]:
    """Train, write weights and record to ``folder``, return the record."""
    trained = train_pair(settings, on_step, loaders)
    state = trained.pair.state_dict()
    save_desk_network(settings.name, KIND, settings.scorer, trained.pair, state, trained.record, folder)
    return trained.record


def contrastive_loss(
    pair: ImageTextPair, images: Tensor, labels: Tensor, tokens: PromptTokens, generator: Generator
) -> Tensor:
    """CLIP's symmetric cross-entropy; every image sees, besides the prompts of the others, one of its own
    prompt's neighbours for each attribute, so that small differences count as well as large ones.

    Args:
        images: ``[N, C, H, W]`` in [-1, 1].
        labels: numbers of their prompts, ``[N]`` on the CPU.
        tokens: of the data set's prompts.
    """
    count = len(images)
    near = torch.cat([changed(labels, name, generator) for name in ASKED])
    ids = tokens(torch.cat([labels, near]))
    seen, read = pair.see(images), pair.read(ids)
    scale = pair.log_scale.exp().clamp(max=100)
    among = scale * seen @ read[:count].T
    neighbours = read[count:].unflatten(0, (len(ASKED), count))
    close = scale * torch.einsum("nd,knd->nk", seen, neighbours)
    target = torch.arange(count, device=images.device)
    by_image = F.cross_entropy(torch.cat([among, close], dim=1), target)
    return (by_image + F.cross_entropy(among.T, target)) / 2


def fit(
    pair: ImageTextPair,
    tokens: PromptTokens,
    settings: ContrastiveTraining,
    on_step: OnStep | None,
    loaders: int,
) -> list[list[float]]:
    """Train in place; rows of the loss curve: images seen, mean loss since the row before."""
    optimizer = torch.optim.AdamW(pair.parameters(), weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(settings.seed)
    every = max(1, settings.steps // CURVE_POINTS)
    curve: list[list[float]] = []
    recent: list[Tensor] = []
    starts = range(0, settings.steps * settings.batch, settings.batch)
    batches = Batches(settings.dataset, "features", starts, settings.batch)
    for step, (images, labels) in enumerate(batches.made(loaders)):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step, settings.steps, settings.warmup)
        images = from_uint8(images.to(settings.device))
        loss = contrastive_loss(pair, images, labels, tokens, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        recent.append(loss.detach())
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            curve.append([(step + 1) * settings.batch, round(float(torch.stack(recent).mean()), 5)])
            recent.clear()
            if not curve[-1][1] < float("inf"):
                raise SkiptuneError(f"the loss is not finite at step {step + 1}; lower the learning rate")
            if on_step is not None:
                on_step(step + 1, settings.steps, curve[-1][1])
    return curve


@torch.no_grad()
def accuracy(
    pair: ImageTextPair, tokens: PromptTokens, dataset: PromptedDataset, settings: ContrastiveTraining
) -> dict[str, Any]:
    """Of held-out images: the share whose own prompt scores highest among those of all, and among two that
    differ in one attribute; and the mean score with their own and with another image's prompt."""
    generator = torch.Generator().manual_seed(settings.seed)
    images, labels = dataset.batch(range(settings.heldout_images), "heldout")
    seen = torch.cat([pair.see(from_uint8(part.to(settings.device))) for part in images.split(250)])

    def read(numbers: Tensor) -> Tensor:
        return torch.cat([pair.read(part) for part in tokens(numbers).split(250)])

    scores = seen @ read(labels).T
    own = scores.diagonal()
    pairs = {name: own > (seen * read(changed(labels, name, generator))).sum(1) for name in ASKED}
    return {
        "heldout_images": settings.heldout_images,
        # Two images may have one prompt: then both are right.
        "heldout_retrieval": float((own >= scores.max(dim=1).values).double().mean()),
        "heldout_accuracy": {name: float(right.double().mean()) for name, right in pairs.items()},
        "heldout_score": float(own.double().mean()),
        "heldout_score_of_others": float((scores.sum() - own.sum()).double() / (scores.numel() - len(own))),
    }
