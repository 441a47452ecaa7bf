"""Blocks of known importance: transformers whose part in the output is planted."""

import pytest
import torch
from scipy.stats import kendalltau

from skiptune.denoisers.diffusers_network import DiffusersNetwork
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.errors import SkiptuneError
from skiptune.importance import Importance, Teacher, ablation_errors, images_without, rank_agreement
from skiptune.interventions import AttentionPruning, find_transformer_blocks, skipping
from skiptune.samplers import make_sampler, sample

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
    gains = torch.tensor(GAINS).expand(2, 7)
    tau = rank_agreement(importance.votes, gains)
    assert tau.tolist() == pytest.approx([kendalltau(votes, GAINS).statistic for votes in importance.votes])
    assert bool((tau > 0.7).all())


def test_agreement_of_known_orders():
    up, ties = torch.arange(5), torch.tensor([1, 1, 2, 3, 3])
    assert rank_agreement(up, up) == 1 and rank_agreement(up, -up) == -1
    assert rank_agreement(up, torch.zeros(5)) == 0
    assert float(rank_agreement(up, ties)) == pytest.approx(kendalltau(up, ties).statistic)


def test_images_without_a_block_are_those_of_skipping_it_while_sampling(planted):
    denoiser, levels = planted.denoiser, planted.sampler.sigmas[:-1].tolist()
    whole, without = images_without(denoiser, SAMPLER, NOISE)
    assert without.shape == (2, 7, *NOISE.shape)
    torch.testing.assert_close(whole, sample(SAMPLER, denoiser, NOISE))
    blocks = find_transformer_blocks(denoiser)
    for step, block in ((0, 4), (1, 0)):
        steps = [[block] if at == step else [] for at in range(2)]
        with AttentionPruning(skipping(blocks, steps), tuple(levels)).attached_to(denoiser):
            torch.testing.assert_close(without[step, block], sample(SAMPLER, denoiser, NOISE))
    torch.testing.assert_close(without[:, 2], whole.expand(2, *whole.shape))  # nothing is added there


def test_scaling_sees_the_residual_of_a_dead_transformer(planted):
    """A weight acts on the whole output, so it is no measure of what the transformer adds."""
    errors = ablation_errors(planted, weight=0.97)
    assert bool((errors[..., 2] > 1e-7).all())


def test_class_conditional_network_without_text():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        8, 4, 4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=3,
    ).eval().requires_grad_(False)  # fmt: skip
    network = DiffusersNetwork(unet)
    denoiser = DiscreteDenoiser(network, (4, 8, 8), vp_alphas("linear", 1e-4, 0.02), 3).eval()
    classes = torch.eye(3)[[0, 2, 2, 1]]
    whole = ablation_errors(Teacher(denoiser, SAMPLER, NOISE, classes))
    alone = ablation_errors(Teacher(denoiser, SAMPLER, NOISE[1:2], classes[1:2]))
    assert whole.shape == (4, 2, 3) and bool((whole > 0).all())
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-3, atol=1e-9)


def test_a_teacher_that_is_not_finite_is_refused(make_prompted):
    denoiser = make_prompted("sd")
    denoiser.unet.conv_in.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(SkiptuneError, match="the teacher predicts NaN or infinity at step 0"):
        Teacher(denoiser, SAMPLER, NOISE)
