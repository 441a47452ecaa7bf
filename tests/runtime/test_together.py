"""Conditions sampled together have the bits of separate runs, for less work."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.denoisers import Denoiser
from skiptune.runtime.together import make_plan, sample_together
from skiptune.samplers import initial_noise, make_sampler, step_noise

SEEDS = range(3)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return load_desk_denoiser("edm_glyphs").denoiser


def tuning(rho: float, **more: object) -> dict[str, object]:
    return {"name": "skip_tuning", "rho_bottom": rho, "rho_top": 1.0, **more}


def windows(levels: list[float], count: int) -> list[dict[str, object]]:
    parts = [levels[i : i + count] for i in range(0, len(levels), count)]
    return [tuning(0.7, sigma_low=part[-1], sigma_high=part[0]) for part in parts]


@torch.inference_mode()
def run(denoiser: Denoiser, sampler: dict[str, object], conditions: list[dict[str, object]]):
    noise, labels = initial_noise(SEEDS, denoiser.image_shape, denoiser.num_classes)
    assert labels is not None
    condition = F.one_hot(labels, denoiser.num_classes).float()
    denoiser.nfe = 0
    found = sample_together(
        make_sampler(**sampler),
        denoiser,
        conditions,
        noise,
        condition,
        lambda step: step_noise(SEEDS, step, denoiser.image_shape),
    )
    return found, denoiser.nfe


SAMPLERS = [
    {"name": "unipc", "steps": 6},
    {"name": "heun", "steps": 4},
    {"name": "sde", "steps": 4, "tau": 0.5},
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler["name"])
def test_bits_and_evaluations_are_those_of_separate_runs(denoiser, sampler):
    levels = [float(s) for s in make_sampler(**sampler).sigmas if s > 0]
    conditions = [
        {"name": "none"},
        tuning(0.6),
        tuning(0.8),
        *windows(levels, 2),
        tuning(0.7, time_direction="increasing"),
        {"name": "freeu", "b1": 1.2, "b2": 1.2, "s1": 0.9, "s2": 0.9},
    ]
    together, made = run(denoiser, sampler, conditions)
    apart = [run(denoiser, sampler, [condition])[0][0] for condition in conditions]
    for (x, calls), (expected, expected_calls) in zip(together, apart, strict=True):
        assert torch.equal(x, expected)
        assert calls == expected_calls
    assert made < sum(calls for _, calls in together)


def test_window_search_costs_what_its_tree_costs(denoiser):
    """13 windows of 4 steps and the baseline: 14 trajectories, 416 of 728 evaluations."""
    sampler = {"name": "unipc", "steps": 52}
    levels = [float(s) for s in make_sampler(**sampler).sigmas if s > 0][:52]
    conditions = [{"name": "none"}, *windows(levels, 4)]
    plan = make_plan(make_sampler(**sampler), conditions)
    assert plan.separate == 14 * 52
    assert plan.shared <= 0.58 * plan.separate

    short = {"name": "unipc", "steps": 8}
    levels = [float(s) for s in make_sampler(**short).sigmas if s > 0][:8]
    conditions = [{"name": "none"}, *windows(levels, 2)]
    plan = make_plan(make_sampler(**short).fitted(denoiser), conditions)
    _, made = run(denoiser, short, conditions)
    assert made == plan.shared < plan.separate


def test_one_condition_shares_nothing(denoiser):
    plan = make_plan(make_sampler("heun", steps=3), [tuning(0.5)])
    assert plan.shared == plan.separate == 5
    assert plan.cost == 1


def test_network_is_left_as_it_was(denoiser):
    before, _ = run(denoiser, {"name": "heun", "steps": 2}, [{"name": "none"}])
    run(denoiser, {"name": "heun", "steps": 2}, [tuning(0.5), tuning(0.6), {"name": "none"}])
    after, _ = run(denoiser, {"name": "heun", "steps": 2}, [{"name": "none"}])
    assert torch.equal(before[0][0], after[0][0])
    assert not any("forward" in vars(module) for module in denoiser.modules())
