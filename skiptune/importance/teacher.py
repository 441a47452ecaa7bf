"""The teacher along its trajectory, and how far a student with other weights is from it at one step.

Teacher and student are one network. What the teacher predicts is computed once, with what the network
computes before its first transformer, which does not depend on the student's weights.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.importance.noise import predicted_noise
from skiptune.interventions.blocks import AttentionPruning, BlockReweighting, find_transformer_blocks
from skiptune.interventions.prefix_memory import PrefixMemory
from skiptune.samplers import Sampler


@dataclass(frozen=True, eq=False)
class Moment:
    """The first network call of a step: ``x`` ``[T, C, H, W]``, its noise level, the noise predicted
    ``[copies, T, C, H, W]`` (two copies under guidance) and what comes before the first transformer."""

    x: Tensor
    sigma: Tensor
    noise: Tensor
    memory: PrefixMemory


class Teacher:
    """The network with its own weights along a trajectory that it drives.

    Args:
        denoiser: with a diffusers U-Net inside, its prompt fixed (``Prompted``).
        sampler: deterministic.
        noise: ``[n, C, H, W]``, the samples that errors are taken over.
        condition: one-hot classes ``[n, K]`` of a class-conditional network.
        weights: block weights by run and step ``[R, S, m]`` of a teacher that has some (IP-A5); then there is
            one trajectory for every run.
        part: what block weights scale, as of ``BlockReweighting``.
        batch: images per network call, at the least one student's n.

    Raises:
        SkiptuneError: a network without transformer blocks or noise level, a stochastic sampler, weights of
            another shape, a prediction that is not finite.

    Attributes:
        evaluations: students that were compared so far; each is one network evaluation of n images.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sampler: Sampler,
        noise: Tensor,
        condition: Tensor | None = None,
        weights: Tensor | None = None,
        part: str = "output",
        batch: int = 64,
    ):
        self.denoiser, self.part, self.batch = denoiser, part, batch
        self.sampler = sampler.fitted(denoiser)
        self.samples = len(noise)
        self.blocks = find_transformer_blocks(denoiser)
        self.trajectories = 1 if weights is None else len(weights)
        self.evaluations = 0
        device = next(denoiser.parameters()).device
        self.condition = None if condition is None else condition.to(device)
        if weights is not None and weights.shape[1:] != (self.steps, len(self.blocks)):
            raise SkiptuneError(
                f"teacher weights have the shape {list(weights.shape)}, it must be [R, S, m] with "
                f"{self.steps} steps and {len(self.blocks)} blocks"
            )
        self.moments = self.drive(noise.to(device), weights)

    @property
    def steps(self) -> int:
        """S, steps of the sampler."""
        return self.sampler.num_steps

    @torch.no_grad()
    def drive(self, noise: Tensor, weights: Tensor | None) -> list[Moment]:
        """Sample with the teacher; the first network call of every step."""
        state = self.sampler.start(noise.repeat(self.trajectories, 1, 1, 1))
        moments = []
        for step in range(self.steps):
            called: list[tuple[Tensor, Tensor]] = []
            memory = PrefixMemory(self.denoiser, [self.blocks[0].transformers[0].block])
            own: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
            if weights is not None:
                rows = weights[:, step].repeat_interleave(self.samples, dim=0)
                own = self.reweighted(rows)

            def denoise(x: Tensor, sigma: Tensor, called: list[tuple[Tensor, Tensor]] = called) -> Tensor:
                called.append((x, sigma))
                return self.denoise(x, sigma)

            with memory.recording(), own, predicted_noise(self.denoiser) as heard:
                state = self.sampler.step(denoise, state)
            x, sigma = called[0]
            if not bool(torch.isfinite(heard[0]).all()):
                raise SkiptuneError(
                    f"the teacher predicts NaN or infinity at step {step}: nothing can be compared with it"
                )
            moments.append(Moment(x, sigma, heard[0].unflatten(0, (-1, len(x))), memory))
        return moments

    def reweighted(self, rows: Tensor) -> contextlib.AbstractContextManager[None]:
        """Attach the weights ``[B, m]`` of the images of a call."""
        return BlockReweighting(rows[None], part=self.part).attached_to(self.denoiser)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0 of rows that are the samples in turn."""
        condition = self.condition
        if condition is not None:
            condition = condition.repeat(len(x) // self.samples, 1)
        return self.denoiser(x, sigma.to(x.device), condition)

    def errors(self, step: int, weights: Tensor, skipped: Tensor, runs: Tensor | None = None) -> Tensor:
        """Mean squared error of students' noise prediction at a step, ``[B, n]`` float64 on the CPU.

        Args:
            weights, skipped: of B students, ``[B, m]`` and bool ``[B, m]``.
            runs: the trajectory that each student belongs to, ``[B]``, where the teacher has several.
        """
        size = max(1, self.batch // self.samples)
        runs = torch.zeros(len(weights), dtype=torch.int64) if runs is None else runs
        parts = zip(weights.split(size), skipped.split(size), runs.split(size), strict=True)
        return torch.cat([self.compare(self.moments[step], *part) for part in parts])

    @torch.no_grad()
    def compare(self, moment: Moment, weights: Tensor, skipped: Tensor, runs: Tensor) -> Tensor:
        """``errors`` of students that fit into one network call."""
        count = self.samples
        rows = (runs[:, None] * count + torch.arange(count)).flatten()
        on_device = rows.to(moment.x.device)
        with (
            moment.memory.replaying(rows, len(moment.x)),
            self.reweighted(weights.repeat_interleave(count, dim=0)),
            AttentionPruning(skipped.repeat_interleave(count, dim=0)[None]).attached_to(self.denoiser),
            predicted_noise(self.denoiser) as heard,
        ):
            self.denoise(moment.x[on_device], moment.sigma)
        self.evaluations += len(weights)
        student = heard[0].unflatten(0, (-1, len(rows)))
        difference = (student - moment.noise[:, on_device]).to(torch.float64)
        return difference.square().mean(dim=(0, 2, 3, 4)).cpu().reshape(-1, count)
