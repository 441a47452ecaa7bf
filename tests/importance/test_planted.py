"""Blocks of known importance: transformers whose part in the output is planted."""

import pytest
import torch
from scipy.stats import kendalltau

from skiptune.importance import Importance, Teacher, ablation_errors
from skiptune.interventions import find_transformer_blocks
from skiptune.samplers import make_sampler

SAMPLER = make_sampler("ddim", steps=2, offset=1, end="first")
NOISE = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(7))
# What each block's transformers add is scaled by this: nothing in block 2, most in block 4.
GAINS = (0.5, 0.04, 0.0, 0.3, 20.0, 2.0, 0.1)


@pytest.fixture(scope="module")
def planted(make_prompted):
    denoiser = make_prompted("sd")
    for block, gain in zip(find_transformer_blocks(denoiser), GAINS, strict=True):
        for transformer in block.transformers:
            for parameter in transformer.block.proj_out.parameters():
                parameter.mul_(gain)
    return Teacher(denoiser, SAMPLER, NOISE)


def test_skipping_recovers_the_dead_and_the_essential_block(planted):
    errors = ablation_errors(planted)
    assert errors.shape == (4, 2, 7) and planted.evaluations == 14
    assert bool((errors[..., 2] == 0).all())
    importance = Importance.of_errors(errors)
    assert all(step[0] == 2 and step[-1] == 4 for step in importance.ranking(range(7)))
    for votes in importance.votes:
        assert kendalltau(votes, GAINS).statistic > 0.7


def test_scaling_sees_the_residual_of_a_dead_transformer(planted):
    """A weight acts on the whole output, so it is no measure of what the transformer adds."""
    errors = ablation_errors(planted, weight=0.97)
    assert bool((errors[..., 2] > 1e-7).all())
