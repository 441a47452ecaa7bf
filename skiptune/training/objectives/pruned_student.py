"""Fine-tuning of a pruned student under the whole network (Importance Probe, Sec. III-G and IV-C)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions.block_settings import block_number, by_step, make_attention_pruning
from skiptune.interventions.blocks import AttentionPruning, find_transformer_blocks
from skiptune.samplers import initial_noise, make_sampler
from skiptune.training.objectives.objective import Data, Objective
from skiptune.training.objectives.teacher import begin_as


class PrunedStudent(Objective):
    """Mean squared error between the noise that student and teacher predict along the student's trajectory.

    The student begins as the teacher, skips blocks at each step as a strategy says, and is driven by its own
    predictions; the teacher, whole, is asked at the student's latents. Only the student's transformers are
    trained, those of blocks that no step skips throughout. The authors' program updates after every step of
    a trajectory; here an update has the mean over its steps, so that every trained transformer has a part.
    (Their student has random weights outside of the transformers, a defect of the release.)

    Args:
        teacher: frozen, a network of prompts.
        prompts: inputs of the network by name ``[P, ...]``, as of ``Prompted``; an image has one at random.
        blocks: numbers of the blocks skipped, a list for every step or one for all.
        sampler: deterministic, ``{"name": ..., its settings}``; without guidance, as the Turbo models.
        latents, first_seed: initial noise is that of these many seeds from the first on.
    """

    needs_data = False

    def __init__(
        self,
        denoiser: Denoiser,
        teacher: Denoiser,
        prompts: Mapping[str, Tensor],
        blocks: Sequence[Any],
        sampler: Mapping[str, Any],
        latents: int = 100,
        first_seed: int = 42,
    ):
        super().__init__(denoiser)
        begin_as(denoiser, teacher)
        self.teacher = teacher
        self.sampler = make_sampler(**sampler).fitted(denoiser)
        self.pruning = pruning_of(denoiser, blocks, self.sampler.sigmas[:-1].tolist())
        denoiser.eval().requires_grad_(False)
        kept = ~self.pruning.skipped.reshape(-1, self.pruning.skipped.shape[-1]).all(dim=0)
        places = [
            transformer
            for block in find_transformer_blocks(denoiser)
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
        noise = initial_noise(range(first_seed, first_seed + latents), denoiser.image_shape)[0]
        self.register_buffer("noise", noise, persistent=False)

    @property
    def trained(self) -> nn.Module:
        return self.transformers

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        """Raises SkiptuneError for more images than latents."""
        noise = self.get_buffer("noise")
        if count > len(noise):
            raise SkiptuneError(f"a batch of {count} has only {len(noise)} latents; give more of them")
        rows = torch.randperm(len(noise), generator=generator)[:count]
        inputs = self.inputs(count, generator)
        errors: list[Tensor] = []

        def drive(x: Tensor, sigma: Tensor) -> Tensor:
            level = sigma.to(x.device)
            student = self.denoiser(x, level, **inputs)
            with torch.no_grad():
                taught = self.teacher(x, level, **inputs)
            errors.append(((student - taught) / level).square().mean())
            return student.detach()

        with self.pruning.attached_to(self.denoiser):
            state = self.sampler.start(noise[rows.to(noise.device)])
            for _ in range(self.sampler.num_steps):
                state = self.sampler.step(drive, state)
        return torch.stack(errors).mean()

    def inputs(self, count: int, generator: Generator) -> dict[str, Tensor]:
        """A prompt for each of ``count`` images."""
        rows = {name: self.get_buffer(f"prompt_{name}") for name in self.names}
        chosen = torch.randint(len(next(iter(rows.values()))), (count,), generator=generator)
        return {name: value[chosen.to(value.device)] for name, value in rows.items()}


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
