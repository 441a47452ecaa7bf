"""The Importance Probe (Sec. III-C): weights that fall as long as the student follows the teacher.

All runs go through an iteration together. A candidate that is not fitter than the best set so far cannot be
accepted, whatever its error, so the network is only asked about the others; the decisions are those of
evaluating every candidate alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.importance.draws import uniform
from skiptune.importance.rules import below_threshold, energy, fitness, over_steps, updated_thresholds
from skiptune.importance.settings import ProbeSettings
from skiptune.importance.teacher import Teacher
from skiptune.interventions.blocks import find_transformer_blocks
from skiptune.samplers import Sampler


@dataclass(frozen=True, eq=False)
class ProbeState:
    """A probe between two iterations, of R runs, S steps and m blocks, after I iterations.

    Attributes:
        weights: the best sets so far ``[R, S, m]`` float64.
        thresholds: after every iteration ``[I, R, S, m]`` float64.
        accepted: whether a candidate was ``[I, R, S]`` bool.
        skipped: share of blocks below their threshold, mean over the candidates ``[I, R, S]`` float64.
    """

    weights: Tensor
    thresholds: Tensor
    accepted: Tensor
    skipped: Tensor

    @property
    def iterations(self) -> int:
        """I."""
        return len(self.thresholds)

    @property
    def current(self) -> Tensor:
        """Thresholds in force ``[R, S, m]``; 0 before the first iteration."""
        return self.thresholds[-1] if self.iterations else torch.zeros_like(self.weights)

    def tensors(self) -> dict[str, Tensor]:
        """By name, to be stored."""
        return dict(vars(self))

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """From what ``tensors`` gave."""
        return cls(**tensors)


@dataclass(frozen=True)
class StepDone:
    """Progress: one iteration of all runs at one step.

    Attributes:
        evaluated: candidates that the network was asked about, of ``runs x candidates``.
        accepted: runs in which one was accepted.
    """

    iteration: int
    step: int
    runs: int
    evaluated: int
    accepted: int


def start_probe(settings: ProbeSettings, steps: int, blocks: int) -> ProbeState:
    """The state before the first iteration; the initial weights are those of ``settings.start``."""
    low, high = settings.start
    drawn = [uniform(low, high, (steps, blocks), settings.seed, "start", run) for run in range(settings.runs)]
    return ProbeState(
        torch.stack(drawn),
        torch.zeros(0, settings.runs, steps, blocks, dtype=torch.float64),
        torch.zeros(0, settings.runs, steps, dtype=torch.bool),
        torch.zeros(0, settings.runs, steps, dtype=torch.float64),
    )


def run_probe(
    denoiser: Denoiser,
    sampler: Sampler,
    noise: Tensor,
    settings: ProbeSettings,
    *,
    condition: Tensor | None = None,
    batch: int = 64,
    state: ProbeState | None = None,
    on_step: Callable[[StepDone], None] | None = None,
    on_iteration: Callable[[ProbeState], None] | None = None,
) -> ProbeState:
    """The state after all iterations.

    Args:
        denoiser, sampler, noise, condition, batch: as of ``Teacher``.
        state: where an earlier call left off; then only what is missing is computed.
        on_step: called after every step of every iteration.
        on_iteration: called with the state after every iteration, to store it.

    Raises:
        SkiptuneError: a state of other runs, steps or blocks; else as ``Teacher``.
    """
    steps, blocks = sampler.fitted(denoiser).num_steps, len(find_transformer_blocks(denoiser))
    begin = start_probe(settings, steps, blocks)
    state = begin if state is None else state
    if state.weights.shape != begin.weights.shape:
        raise SkiptuneError(
            f"the stored probe is of {list(state.weights.shape)} runs, steps and blocks, not "
            f"{list(begin.weights.shape)}"
        )
    weights = begin.weights if settings.teacher == "start" else None
    teacher = Teacher(denoiser, sampler, noise, condition, weights, settings.part, batch)
    while state.iterations < settings.iterations:
        state = advance(state, teacher, settings, begin, on_step)
        if on_iteration is not None:
            on_iteration(state)
    return state


def advance(
    state: ProbeState,
    teacher: Teacher,
    settings: ProbeSettings,
    begin: ProbeState,
    on_step: Callable[[StepDone], None] | None = None,
) -> ProbeState:
    """One iteration of all runs; ``begin`` is the state that the probe started from."""
    progress = (state.iterations + 1) / settings.iterations
    outcomes, thresholds = [], []
    for step in range(teacher.steps):
        found = probe_step(state, step, teacher, settings, begin)
        q = state.current[:, step]
        thresholds.append(updated_thresholds(settings.thresholds, q, found.weights, found.accepted, progress))
        outcomes.append(found)
        if on_step is not None:
            count = int(found.accepted.sum())
            on_step(StepDone(state.iterations, step, settings.runs, found.evaluated, count))

    def appended(before: Tensor, now: list[Tensor]) -> Tensor:
        return torch.cat([before, torch.stack(now, dim=1)[None]])

    return ProbeState(
        torch.stack([found.weights for found in outcomes], dim=1),
        appended(state.thresholds, thresholds),
        appended(state.accepted, [found.accepted for found in outcomes]),
        appended(state.skipped, [found.skipped for found in outcomes]),
    )


class Outcome(NamedTuple):
    """One iteration at one step: weights in force afterwards ``[R, m]``, whether a candidate was accepted
    ``[R]``, the share of blocks that candidates skip ``[R]``, candidates that the network was asked about."""

    weights: Tensor
    accepted: Tensor
    skipped: Tensor
    evaluated: int


def probe_step(
    state: ProbeState, step: int, teacher: Teacher, settings: ProbeSettings, begin: ProbeState
) -> Outcome:
    """Perturb the best sets of all runs at a step, and keep the fittest that is close to the teacher."""
    best, thresholds = state.weights[:, step], state.current[:, step]
    candidates = perturbed(best, state.iterations, step, teacher.steps, settings)
    skipped = below_threshold(candidates, thresholds[:, None], settings.margin)
    own = torch.zeros_like(best, dtype=torch.bool)
    if settings.count_current_skips:
        own = below_threshold(best, thresholds, settings.margin)
    reference = torch.full((settings.runs,), float(best.shape[-1]), dtype=torch.float64)
    if settings.teacher == "start":
        reference = energy(begin.weights[:, step])
    fit = fitness(candidates, skipped, reference[:, None])
    fitter = fit > fitness(best, own, reference)[:, None]
    runs = fitter.nonzero()[:, 0]
    errors = torch.full_like(fit, float("inf"))
    if len(runs):
        trajectories = runs if settings.teacher == "start" else None
        errors[fitter] = teacher.errors(step, candidates[fitter], skipped[fitter], trajectories).mean(dim=1)
    good = errors <= over_steps(settings.tolerance, step, teacher.steps)
    accepted = good.any(dim=1)
    fittest = fit.masked_fill(~good, -float("inf")).argmax(dim=1)
    chosen = candidates[torch.arange(settings.runs), fittest]
    weights = torch.where(accepted[:, None], chosen, best)
    return Outcome(weights, accepted, skipped.to(torch.float64).mean(dim=(1, 2)), len(runs))


def perturbed(best: Tensor, iteration: int, step: int, steps: int, settings: ProbeSettings) -> Tensor:
    """Candidates ``[R, K, m]``: the best weights ``[R, m]`` and a random change, clipped to [0, 1]."""
    size = over_steps(settings.perturbation, step, steps)
    top = 0.0 if settings.draws == "falling" else size
    shape = (settings.candidates, best.shape[-1])
    place = settings.seed, "perturbation", iteration, step
    changes = [uniform(-size, top, shape, *place, run) for run in range(settings.runs)]
    return (best[:, None] + torch.stack(changes)).clamp(0, 1)
