"""The Importance Probe the plain way, as the authors' program goes: a candidate, a run, a step at a time.

The teacher is asked anew at every step of every iteration and run, and the student about every candidate,
also those that cannot be accepted. It is what the batched probe is measured against.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.importance import ProbeSettings, ProbeState, start_probe
from skiptune.importance.draws import uniform
from skiptune.importance.noise import predicted_noise
from skiptune.importance.rules import below_threshold, energy, fitness, over_steps, updated_thresholds
from skiptune.interventions import AttentionPruning, BlockReweighting, find_transformer_blocks
from skiptune.samplers import Sampler
from skiptune.samplers.sample import bind
from skiptune.samplers.state import SamplerState


@dataclass(frozen=True, eq=False)
class Student:
    """One run at one step: its best weights, thresholds and the teacher's weights, each ``[m]`` float64."""

    best: Tensor
    thresholds: Tensor
    own: Tensor


@dataclass(frozen=True, eq=False)
class OneByOne:
    """A probe of a denoiser with its prompt, a sampler that calls it once a step, unit noise ``[n, ...]``."""

    denoiser: Denoiser
    sampler: Sampler
    noise: Tensor
    settings: ProbeSettings

    @torch.no_grad()
    def run(self) -> ProbeState:
        """The state after all iterations."""
        settings, sampler = self.settings, self.sampler.fitted(self.denoiser)
        fitted = replace(self, sampler=sampler)
        blocks = len(find_transformer_blocks(self.denoiser))
        begin = start_probe(settings, sampler.num_steps, blocks)
        shape = (settings.iterations, settings.runs, sampler.num_steps)
        best, thresholds = begin.weights.clone(), torch.zeros(*shape, blocks, dtype=torch.float64)
        accepted, skipped = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.float64)
        for run in range(settings.runs):
            for iteration in range(settings.iterations):
                state = sampler.start(self.noise)
                before = thresholds[iteration - 1, run] if iteration else torch.zeros_like(best[0])
                progress = (iteration + 1) / settings.iterations
                for step in range(sampler.num_steps):
                    place, own = (iteration, run, step), torch.ones_like(best[0, 0])
                    if settings.teacher == "start":
                        own = begin.weights[run, step]
                    student = Student(best[run, step], before[step], own)
                    state, chosen, skipped[place] = fitted.step(state, student, iteration, run)
                    accepted[place] = chosen is not None
                    best[run, step] = student.best if chosen is None else chosen
                    thresholds[place] = updated_thresholds(
                        settings.thresholds, before[step], best[run, step], accepted[place], progress
                    )
        return ProbeState(best, thresholds, accepted, skipped)

    def step(
        self, state: SamplerState, student: Student, iteration: int, run: int
    ) -> tuple[SamplerState, Tensor | None, float]:
        """The teacher's next state, the fittest candidate close to it, the share of blocks skipped."""
        settings, sigma = self.settings, self.sampler.sigmas[state.step]
        with (
            BlockReweighting(student.own, part=settings.part).attached_to(self.denoiser),
            predicted_noise(self.denoiser) as taught,
        ):
            after = self.sampler.step(bind(self.denoiser), state)
        limit = over_steps(settings.tolerance, state.step, self.sampler.num_steps)
        e_0 = energy(student.own)
        own = below_threshold(student.best, student.thresholds, settings.margin)
        to_beat = fitness(student.best, own if settings.count_current_skips else own & False, e_0)
        chosen, shares = None, []
        for change in self.changes(state.step, iteration, run):
            weights = (student.best + change).clamp(0, 1)
            skips = below_threshold(weights, student.thresholds, settings.margin)
            shares.append(float(skips.to(torch.float64).mean()))
            with (
                BlockReweighting(weights, part=settings.part).attached_to(self.denoiser),
                AttentionPruning(skips).attached_to(self.denoiser),
                predicted_noise(self.denoiser) as learned,
            ):
                self.denoiser(state.x, sigma)
            error = float((learned[0] - taught[0]).to(torch.float64).square().mean())
            fit = fitness(weights, skips, e_0)
            if error <= limit and fit > to_beat:
                chosen, to_beat = weights, fit
        return after, chosen, sum(shares) / len(shares)

    def changes(self, step: int, iteration: int, run: int) -> Tensor:
        """``[K, m]``, the draws of the batched probe at this place."""
        settings = self.settings
        size = over_steps(settings.perturbation, step, self.sampler.num_steps)
        shape = settings.candidates, len(find_transformer_blocks(self.denoiser))
        top = 0.0 if settings.draws == "falling" else size
        return uniform(-size, top, shape, settings.seed, "perturbation", iteration, step, run)
