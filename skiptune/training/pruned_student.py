"""Fine-tuning of a pruned student under the whole network (Importance Probe, Sec. III-G and IV-C)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions.block_settings import block_number, by_step, make_attention_pruning
from skiptune.interventions.blocks import AttentionPruning, find_transformer_blocks
from skiptune.samplers import initial_noise, make_sampler

DECAYS = ("linear", "none")


@dataclass(frozen=True)
class FineTuning:
    """How the student's transformers learn, with Adam.

    Attributes:
        updates, batch: trajectories of ``batch`` images, after each of which the weights change once.
        learning_rate: at the first update.
        decay: ``linear``, to 0 after the last update, or ``none``: a constant rate.
        latents, first_seed: initial noise is that of these many seeds from the first on, 42 to 141 in the
            authors' program.

    Raises:
        SkiptuneError: another decay, no update or image, or more images than latents.
    """

    updates: int
    batch: int
    learning_rate: float
    decay: str
    latents: int = 100
    first_seed: int = 42

    def __post_init__(self) -> None:
        if self.decay not in DECAYS:
            raise SkiptuneError(f"unknown decay {self.decay!r}; choose one of {', '.join(DECAYS)}")
        if self.updates < 1 or self.batch < 1:
            raise SkiptuneError(f"{self.updates} updates of {self.batch} images tune nothing; give 1 or more")
        if self.batch > self.latents:
            raise SkiptuneError(f"a batch of {self.batch} has only {self.latents} latents; give more of them")

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.latents)

    def rate_at(self, update: int) -> float:
        """The learning rate of an update, counted from 0."""
        left = 1 - update / self.updates if self.decay == "linear" else 1.0
        return self.learning_rate * left


class PrunedStudent(nn.Module):
    """Mean squared error between the noise that student and teacher predict along the student's trajectory.

    The student skips blocks at each step as a strategy says, and is driven by its own predictions; the
    teacher, whole, is asked at the student's latents. Only the student's transformers are trained, those of
    blocks that no step skips throughout. The authors' program updates after every step of a trajectory; here
    an update has the mean over its steps, so that every trained transformer has a part. (Their student has
    random weights outside of the transformers, a defect of the release.)

    Args:
        student: a copy of the teacher in float32, whose transformers change.
        teacher: frozen, a network of prompts.
        prompts: inputs of the network by name ``[P, ...]``, as of ``Prompted``; an image has one at random.
        blocks: numbers of the blocks skipped, a list for every step or one for all.
        sampler: deterministic, ``{"name": ..., its settings}``; without guidance, as the Turbo models.

    Raises:
        SkiptuneError: blocks that do not fit network or sampler, or that leave nothing to train.
    """

    def __init__(
        self,
        student: Denoiser,
        teacher: Denoiser,
        prompts: Mapping[str, Tensor],
        blocks: Sequence[Any],
        sampler: Mapping[str, Any],
        settings: FineTuning,
    ):
        super().__init__()
        self.student, self.teacher = student, teacher
        self.sampler = make_sampler(**sampler).fitted(student)
        self.pruning = pruning_of(student, blocks, self.sampler.sigmas[:-1].tolist())
        student.eval().requires_grad_(False)
        kept = ~self.pruning.skipped.reshape(-1, self.pruning.skipped.shape[-1]).all(dim=0)
        places = [
            transformer
            for block in find_transformer_blocks(student)
            for transformer in block.transformers
            if kept[block.index]
        ]
        if not places:
            raise SkiptuneError("the strategy skips all blocks at all steps: there is nothing to fine-tune")
        self.transformers = tree((place.name, place.block) for place in places)
        self.transformers.requires_grad_(True)
        self.names = tuple(prompts)
        for name, rows in prompts.items():
            self.register_buffer(f"prompt_{name}", rows, persistent=False)
        noise = initial_noise(settings.seeds, student.image_shape)[0]
        self.register_buffer("noise", noise, persistent=False)

    def loss(self, count: int, generator: Generator) -> Tensor:
        """Loss ``[]`` of ``count`` of the latents; random numbers come from ``generator``, of the CPU."""
        noise = self.get_buffer("noise")
        rows = torch.randperm(len(noise), generator=generator)[:count]
        inputs = self.inputs(count, generator)
        errors: list[Tensor] = []

        def drive(x: Tensor, sigma: Tensor) -> Tensor:
            level = sigma.to(x.device)
            student = self.student(x, level, **inputs)
            with torch.no_grad():
                taught = self.teacher(x, level, **inputs)
            errors.append(((student - taught) / level).square().mean())
            return student.detach()

        with self.pruning.attached_to(self.student):
            state = self.sampler.start(noise[rows.to(noise.device)])
            for _ in range(self.sampler.num_steps):
                state = self.sampler.step(drive, state)
        return torch.stack(errors).mean()

    def inputs(self, count: int, generator: Generator) -> dict[str, Tensor]:
        """A prompt for each of ``count`` images."""
        rows = {name: self.get_buffer(f"prompt_{name}") for name in self.names}
        chosen = torch.randint(len(next(iter(rows.values()))), (count,), generator=generator)
        return {name: value[chosen.to(value.device)] for name, value in rows.items()}


def fine_tuned(
    teacher: Denoiser,
    prompts: Mapping[str, Tensor],
    blocks: Sequence[Any],
    sampler: Mapping[str, Any],
    settings: FineTuning,
) -> dict[str, Tensor]:
    """The transformers of a student that skips ``blocks``, fine-tuned under the network that it begins as.

    To be put over the network's own with ``replaced_weights``; to skip the blocks is up to
    ``AttentionPruning``.

    Args:
        teacher, prompts, blocks, sampler: as of ``PrunedStudent``; the teacher is left as it is.

    Returns:
        Their weights by their names in the network, float32 on the CPU.

    Raises:
        SkiptuneError: as ``PrunedStudent``.
    """
    # In float32: steps of training would be lost in half precision.
    student = copy.deepcopy(teacher).float()
    learning = PrunedStudent(student, teacher, prompts, blocks, sampler, settings)
    learning.to(next(teacher.parameters()).device)
    generator = torch.Generator().manual_seed(settings.first_seed)
    optimizer = torch.optim.Adam(learning.transformers.parameters(), lr=settings.learning_rate)
    for update in range(settings.updates):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate_at(update)
        optimizer.zero_grad()
        learning.loss(settings.batch, generator).backward()
        optimizer.step()
    state = learning.transformers.state_dict()
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def pruning_of(denoiser: Denoiser, blocks: Sequence[Any], levels: Sequence[float]) -> AttentionPruning:
    """The strategy at a sampler's noise levels. Raises SkiptuneError if it does not fit."""
    per_step = by_step("blocks", blocks, block_number)
    return make_attention_pruning({"blocks": per_step}, levels, denoiser)


def tree(places: Iterable[tuple[str, nn.Module]]) -> nn.ModuleDict:
    """The modules under their paths, so that parameters are called as in the network that holds them."""
    root = nn.ModuleDict()
    for path, module in places:
        *above, last = path.split(".")
        inner = root
        for name in above:
            if name not in inner:
                inner[name] = nn.ModuleDict()
            inner = inner[name]  # type: ignore[assignment]
        inner[last] = module
    return root
