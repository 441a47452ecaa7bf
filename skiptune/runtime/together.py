"""Conditions sampled together: what their trajectories share is computed once, with bits of separate runs.

Conditions that differ in the intervention alone go through the sampler in step. Those whose interventions
have acted alike so far share one state; those that part at a step share, in its first network call, what the
network computes before the first place where one of them acts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skiptune.denoisers import Denoiser
from skiptune.interventions.build import attach_intervention
from skiptune.interventions.effect import acts_on_blocks, effect, first_places
from skiptune.interventions.prefix_memory import PrefixMemory
from skiptune.samplers import Sampler
from skiptune.samplers.sample import bind
from skiptune.samplers.state import NoiseAt, SamplerState

# Of a network call, what lies before the first skip site; only used to decide whether sharing pays.
ENCODER_SHARE = 0.3

Edge = tuple[int, ...]
"""The conditions, by number, that share one step of the sampler."""


@dataclass(frozen=True)
class Plan:
    """Which conditions share a step: for every step the groups, each of one parent group in the step before.

    Attributes:
        steps: groups by step; conditions stay in order.
        calls: network calls in each step.
        prefix: share of a call that conditions have in common which part there.
    """

    steps: tuple[tuple[Edge, ...], ...]
    calls: tuple[int, ...]
    prefix: float

    @property
    def separate(self) -> int:
        """Network calls of the conditions run one by one."""
        return sum(self.calls) * sum(len(group) for group in self.steps[0])

    @property
    def shared(self) -> int:
        """Network calls with sharing, encoder passes counted as whole calls."""
        return sum(count * len(groups) for count, groups in zip(self.calls, self.steps, strict=True))

    @property
    def cost(self) -> float:
        """Estimated time over that of separate runs."""
        return self.work / self.separate

    @property
    def work(self) -> float:
        """Network calls with sharing, those that begin together as parts of one."""
        parted = sum(len(groups) - len(before) for before, groups in self.pairs())
        return self.shared - self.prefix * parted

    @property
    def middle(self) -> int:
        """The number of conditions from the first on that make about half of the network calls."""
        own = [0] * sum(len(group) for group in self.steps[0])
        for count, groups in zip(self.calls, self.steps, strict=True):
            for group in groups:
                own[group[0]] += count
        return min(range(1, len(own)), key=lambda i: abs(2 * sum(own[:i]) - sum(own)))

    def pairs(self) -> list[tuple[tuple[Edge, ...], tuple[Edge, ...]]]:
        """The groups before and in every step."""
        everyone = tuple(sorted(number for group in self.steps[0] for number in group))
        return list(zip(((everyone,), *self.steps), self.steps, strict=False))


def make_plan(sampler: Sampler, interventions: Sequence[Mapping[str, Any]]) -> Plan:
    """The plan for conditions that differ in their intervention alone, for a fitted sampler."""
    levels = sampler.sigmas.tolist()
    groups: tuple[Edge, ...] = (tuple(range(len(interventions))),)
    steps, calls = [], []
    for sigmas in levels_called(sampler):
        keys = [effect(settings, levels, sigmas) for settings in interventions]
        parted: list[Edge] = []
        for group in groups:
            by_key: dict[str | None, list[int]] = {}
            for number in group:
                by_key.setdefault(keys[number], []).append(number)
            parted += [tuple(members) for members in by_key.values()]
        groups = tuple(parted)
        steps.append(groups)
        calls.append(len(sigmas))
    prefix = 0.0 if any(map(acts_on_blocks, interventions)) else ENCODER_SHARE
    return Plan(tuple(steps), tuple(calls), prefix)


def levels_called(sampler: Sampler) -> list[list[float]]:
    """Noise levels of the network calls in every step, found by stepping on a stand-in, the identity."""
    called: list[list[float]] = []

    def listen(x: Tensor, sigma: Tensor) -> Tensor:
        called[-1].append(float(sigma))
        return x

    state = sampler.start(torch.zeros(1, 1, 1, 1))
    for _ in range(sampler.num_steps):
        called.append([])
        state = sampler.step(listen, state, lambda step: torch.zeros(1, 1, 1, 1))
    return called


@torch.no_grad()
def sample_together(
    sampler: Sampler,
    denoiser: Denoiser,
    interventions: Sequence[Mapping[str, Any]],
    noise: Tensor,
    condition: Tensor | None = None,
    noise_at: NoiseAt | None = None,
) -> list[tuple[Tensor, int]]:
    """Sample of every intervention, ``[N, C, H, W]`` float64, and the network evaluations on its way.

    ``denoiser.nfe`` counts those really made. Arguments as for ``samplers.sample``; raises as it does, and as
    ``attach_intervention``.
    """
    sampler = sampler.fitted(denoiser)
    plan, denoise = make_plan(sampler, interventions), bind(denoiser, condition)
    levels = sampler.sigmas.tolist()
    begin = sampler.start(noise)
    states: list[SamplerState] = [begin] * len(interventions)
    evaluations = [0] * len(interventions)
    for before, groups in plan.pairs():
        for parent in before:
            children = [group for group in groups if set(group) <= set(parent)]
            acting = [interventions[child[0]] for child in children]
            memory = PrefixMemory(denoiser, first_places(acting, denoiser)) if len(children) > 1 else None
            state, results = states[parent[0]], []
            for child in children:
                sharing: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
                if memory is not None:
                    sharing = memory.replaying() if memory.results else memory.recording()
                made = denoiser.nfe
                with sharing, attach_intervention(interventions[child[0]], denoiser, levels):
                    results.append((child, sampler.step(denoise, state, noise_at), denoiser.nfe - made))
            for child, after, calls in results:
                for number in child:
                    states[number] = after
                    evaluations[number] += calls
    return [(sampler.finish(state), calls) for state, calls in zip(states, evaluations, strict=True)]
