"""Ways to rank transformer blocks from one image: the probe in its readings, and the direct measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.importance import (
    RELEASED,
    TEXT,
    Importance,
    ProbeSettings,
    Teacher,
    ablation_errors,
    run_probe,
)
from skiptune.importance.probe import StepDone
from skiptune.samplers import Sampler

SCALE = 0.97  # the weight of a changed block, as far from 1 as the probe's perturbations go


@dataclass(frozen=True)
class Ranking:
    """Votes ``[S, m]``, a higher one for a more important block; network evaluations of one image that they
    took; of a probe the share of steps at which a candidate was accepted, and that of blocks skipped in
    candidates."""

    votes: Tensor
    calls: int
    accepted: float | None = None
    skipping: float | None = None


Rank = Callable[[Denoiser, Sampler, Tensor, int], Ranking]
"""(denoiser of a prompt, sampler, unit noise ``[1, C, H, W]``, seed of random draws) -> ranking."""


def by_ablation(weight: float | None) -> Rank:
    """By the error of the noise prediction where one block is skipped, or scaled by a weight."""

    def rank(denoiser: Denoiser, sampler: Sampler, noise: Tensor, seed: int) -> Ranking:
        teacher = Teacher(denoiser, sampler, noise)
        votes = Importance.of_errors(ablation_errors(teacher, weight)).votes
        return Ranking(votes, teacher.steps + teacher.evaluations)

    return rank


def by_probe(settings: ProbeSettings) -> Rank:
    """By the Importance Probe."""

    def rank(denoiser: Denoiser, sampler: Sampler, noise: Tensor, seed: int) -> Ranking:
        own, asked = replace(settings, seed=seed), 0

        def count(done: StepDone) -> None:
            nonlocal asked
            asked += done.evaluated

        state = run_probe(denoiser, sampler, noise, own, on_step=count)
        votes = Importance.of_thresholds(state.current, own).votes
        trajectories = settings.runs if settings.teacher == "start" else 1
        calls = trajectories * sampler.num_steps + asked
        return Ranking(votes, calls, float(state.accepted.double().mean()), float(state.skipped.mean()))

    return rank


PROBES = {
    "released": RELEASED,
    "text": TEXT,
    "released_branch": replace(RELEASED, part="branch"),
    "text_branch": replace(TEXT, part="branch"),
}
RANKINGS: dict[str, Rank] = {
    "skipped": by_ablation(None),
    "scaled": by_ablation(SCALE),
    **{name: by_probe(settings) for name, settings in PROBES.items()},
}
TITLES = {
    "skipped": "direct: each block skipped once",
    "scaled": f"direct: each block scaled by {SCALE}",
    "released": "probe, released code",
    "text": "probe, text",
    "released_branch": "probe, released code, weights on the branch",
    "text_branch": "probe, text, weights on the branch",
}
