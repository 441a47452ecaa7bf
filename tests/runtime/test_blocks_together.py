"""Interventions on transformer blocks, sampled together, have the bits of separate runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from skiptune.denoisers.diffusers_network import DiffusersNetwork, Prompted
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.errors import SkiptuneError
from skiptune.interventions import attach_intervention
from skiptune.interventions.effect import effect
from skiptune.runtime.together import make_plan, sample_together
from skiptune.samplers import initial_noise, make_sampler, sample

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "interventions"))
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
SAMPLER = {"name": "ddim", "steps": 2, "offset": 1, "end": "first"}
ONES = [1.0] * 7
UP = [1.0, 1.0, 1.0, 1.0, 1.1, 1.0, 1.0]


@pytest.fixture(scope="module")
def denoiser() -> Prompted:
    from tiny_diffusers import inputs, tiny_unet

    network = DiffusersNetwork(tiny_unet(diffusers, "sd"))
    inner = DiscreteDenoiser(network, (4, 8, 8), vp_alphas("scaled_linear", 0.00085, 0.012)).eval()
    return Prompted(inner, {"context": inputs("sd", 1)[1]["encoder_hidden_states"]})


def test_bits_and_evaluations_are_those_of_separate_runs(denoiser: Prompted) -> None:
    conditions = [
        {"name": "none"},
        {"name": "attention_pruning", "blocks": [[0], [1]]},
        {"name": "attention_pruning", "blocks": [[0], [6, 5]]},
        {"name": "block_reweighting", "weights": [ONES, UP]},
        {"name": "block_reweighting", "weights": UP, "part": "branch"},
        {"name": "skip_tuning", "rho_bottom": 0.8},
    ]
    noise, _ = initial_noise(range(2), (4, 8, 8))
    sampler = make_sampler(**SAMPLER)
    denoiser.nfe = 0
    found = sample_together(sampler, denoiser, conditions, noise)
    # In the first step both prunings share a state, and the later re-weighting shares that of the untouched.
    assert denoiser.nfe == 4 + 6
    fitted = sampler.fitted(denoiser)
    for settings, (x, _) in zip(conditions, found, strict=True):
        with attach_intervention(settings, denoiser, fitted.sigmas.tolist()):
            assert torch.equal(sample(sampler, denoiser, noise), x), settings
    assert len({tuple(x.flatten().tolist()) for x, _ in found}) == len(conditions)


def test_effects_by_step() -> None:
    levels = [9.0, 1.0, 0.1]
    pruning = {"name": "attention_pruning", "blocks": [[0], []]}
    assert effect(pruning, levels, [1.0]) is None
    assert effect(pruning, levels, [9.0]) == effect({**pruning, "blocks": [[0], [1]]}, levels, [9.0])
    assert effect(pruning, levels, [9.0]) != effect({**pruning, "blocks": [[0, 1], [1]]}, levels, [9.0])
    static = {"name": "block_reweighting", "weights": UP}
    by_step = {"name": "block_reweighting", "weights": [UP, ONES]}
    assert effect(static, levels, [9.0]) == effect(by_step, levels, [9.0])
    assert effect(static, levels, [1.0]) is not None and effect(by_step, levels, [1.0]) is None
    with pytest.raises(SkiptuneError, match="weights are given for 2 steps, the sampler has 3"):
        effect(by_step, [9.0, 2.0, 1.0, 0.1], [9.0])


def test_plan_shares_steps_in_which_strategies_agree(denoiser: Prompted) -> None:
    strategies = [[[a], [b]] for a in (0, 1) for b in (0, 1)]
    conditions = [{"name": "attention_pruning", "blocks": blocks} for blocks in strategies]
    plan = make_plan(make_sampler(**SAMPLER).fitted(denoiser), conditions)
    assert [len(groups) for groups in plan.steps] == [2, 4]
    assert plan.cost == 6 / 8  # nothing of note comes before the first block
