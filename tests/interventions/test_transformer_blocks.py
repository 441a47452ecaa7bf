"""Transformer blocks of diffusers' U-Nets: where they are, what scaling and skipping them does."""

import pytest
import torch
from tiny_diffusers import inputs, tiny_unet

from skiptune.errors import SkiptuneError
from skiptune.interventions import (
    AttentionPruning,
    BlockReweighting,
    SkipTuning,
    find_transformer_blocks,
    skipping,
)

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")


class Family:
    def __init__(self, kind):
        self.network = tiny_unet(diffusers, kind)
        self.x, self.named = inputs(kind)
        self.blocks = find_transformer_blocks(self.network)

    def __call__(self, t=300, rows=slice(None)):
        named = {
            key: {k: v[rows] for k, v in value.items()} if isinstance(value, dict) else value[rows]
            for key, value in self.named.items()
        }
        return self.network(self.x[rows], t, **named).sample

    def restored(self):
        modules = list(self.network.modules())
        assert not any("forward" in module.__dict__ for module in modules)
        return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in modules) == 0

    def weights(self, **changed):
        """1 everywhere but for ``b<index>``."""
        return torch.tensor([changed.get(f"b{block.index}", 1.0) for block in self.blocks])


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def family(request):
    return Family(request.param)


PLACES = {
    "sd": [(0, "down_blocks.0", 2), (1, "down_blocks.1", 2), (2, "down_blocks.2", 2), (3, "mid_block", 1),
           (4, "up_blocks.1", 3), (5, "up_blocks.2", 3), (6, "up_blocks.3", 3)],
    "sdxl": [(1, "down_blocks.1", 2), (2, "down_blocks.2", 2), (3, "mid_block", 1),
             (4, "up_blocks.0", 3), (5, "up_blocks.1", 3)],
}  # fmt: skip


@pytest.mark.parametrize("kind", PLACES)
def test_blocks_are_numbered_as_in_the_paper(kind):
    with torch.device("meta"):
        network = tiny_unet(diffusers, kind, layers_per_block=2)  # as in the published networks
    blocks = find_transformer_blocks(network)
    found = [(block.number, block.name, len(block.transformers)) for block in blocks]
    assert found == PLACES[kind]
    assert [block.index for block in blocks] == list(range(len(found)))
    for block in blocks:
        for transformer in block.transformers:
            assert network.get_submodule(transformer.name) is transformer.block
            assert type(transformer.block).__name__ == "Transformer2DModel"


def test_transformers_run_in_the_order_of_the_blocks(family):
    order = []
    places = [place for block in family.blocks for place in block.transformers]
    handles = [
        place.block.register_forward_hook(lambda *_, name=place.name: order.append(name)) for place in places
    ]
    family()
    for handle in handles:
        handle.remove()
    assert order == [place.name for place in places]


@pytest.mark.parametrize("part", ["output", "branch"])
def test_neutral_weights_are_bit_identical(family, part):
    untouched = family()
    ones = torch.ones(2, len(family.blocks))
    ones[0] = 1.1  # rows of the second image are neutral, those of the first are not
    with BlockReweighting(ones[None], part=part).attached_to(family.network):
        assert torch.equal(family()[1], untouched[1])
    for weights in (torch.ones(len(family.blocks)), torch.ones(1, 2, len(family.blocks))):
        with BlockReweighting(weights, part=part).attached_to(family.network):
            assert torch.equal(family(), untouched)
    with AttentionPruning(torch.zeros(len(family.blocks), dtype=torch.bool)).attached_to(family.network):
        assert torch.equal(family(), untouched)
    assert family.restored()


def listen(family, index):
    """The inputs and outputs of a block's transformers, as the U-Net sees them."""
    seen = []

    def hook(module, args, kwargs, output):
        seen.append((args[0], output[0]))

    places = family.blocks[index].transformers
    return seen, [place.block.register_forward_hook(hook, with_kwargs=True) for place in places]


@pytest.mark.parametrize("index", [0, 2, 4])
def test_weight_scales_every_transformer_of_the_block(family, index):
    plain, handles = listen(family, index)
    family()
    with BlockReweighting(family.weights(**{f"b{index}": 1.1})).attached_to(family.network):
        family()
    for handle in handles:
        handle.remove()
    count = len(family.blocks[index].transformers)
    (x, before), (same, after) = plain[0], plain[count]
    assert len(plain) == 2 * count and torch.equal(x, same)
    assert torch.equal(after, before * torch.tensor(1.1))


def test_branch_scales_what_the_transformer_adds(family):
    seen, handles = listen(family, 1)
    family()
    with BlockReweighting(family.weights(b1=0.5), part="branch").attached_to(family.network):
        family()
    for handle in handles:
        handle.remove()
    x, before = seen[0]
    after = seen[len(family.blocks[1].transformers)][1]
    torch.testing.assert_close(after, x + 0.5 * (before - x))


def test_branch_of_weight_zero_is_skipping(family):
    with BlockReweighting(family.weights(b1=0.0), part="branch").attached_to(family.network):
        expected = family()
    mask = skipping(family.blocks, [[family.blocks[1].number]])
    with AttentionPruning(mask).attached_to(family.network):
        torch.testing.assert_close(family(), expected)


def count_calls(family, index):
    """Rows that reach the attention layers inside of the block's transformers."""
    rows = []
    places = family.blocks[index].transformers
    modules = [each for place in places for each in place.block.named_modules()]
    inside = [module for name, module in modules if name.endswith("attn1")]
    return rows, [module.register_forward_hook(lambda *seen: rows.append(len(seen[-1]))) for module in inside]


def test_skipping_runs_nothing_of_the_block(family):
    untouched = family()
    rows, handles = count_calls(family, 1)
    family()
    full = len(rows)
    assert full >= len(family.blocks[1].transformers)
    rows.clear()
    mask = skipping(family.blocks, [[family.blocks[1].number]])
    with AttentionPruning(mask).attached_to(family.network) as count:
        pruned = family()
    assert rows == []
    assert count.skipped == 2 * len(family.blocks[1].transformers) and count.computed == 0
    assert (pruned - untouched).abs().max() > 1e-4
    # One of the two images: the other one's rows alone are computed.
    mask = torch.stack([torch.zeros_like(mask[0]), mask[0]])[None]
    with AttentionPruning(mask).attached_to(family.network) as count:
        mixed = family()
    assert rows == [1] * full and count.skipped == count.computed == len(family.blocks[1].transformers)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(mixed[0], untouched[0])
    torch.testing.assert_close(mixed[1], pruned[1])
    assert family.restored() and torch.equal(family(), untouched)


def test_a_skipped_block_is_not_scaled_whatever_the_order(family):
    reweighting = BlockReweighting(family.weights(b0=0.8, b1=1.1))
    pruning = AttentionPruning(skipping(family.blocks, [[family.blocks[1].number]]))
    others = BlockReweighting(family.weights(b0=0.8))
    with others.attached_to(family.network), pruning.attached_to(family.network):
        expected = family()
    with reweighting.attached_to(family.network), pruning.attached_to(family.network):
        assert torch.equal(family(), expected)
    with pruning.attached_to(family.network), reweighting.attached_to(family.network):
        assert torch.equal(family(), expected)
    assert family.restored()


def test_values_of_every_image_and_step(family):
    generator = torch.Generator().manual_seed(3)
    m = len(family.blocks)
    weights = 0.9 + 0.2 * torch.rand(2, 2, m, generator=generator)  # steps, images, blocks
    skipped = torch.rand(2, 2, m, generator=generator) < 0.3
    levels = (900.0, 300.0)
    reweighting, pruning = BlockReweighting(weights, levels), AttentionPruning(skipped, levels)
    with (
        reweighting.attached_to(family.network, lambda t: t),
        pruning.attached_to(family.network, lambda t: t),
    ):
        together = {t: family(t) for t in (900, 300)}
        mixed = family(torch.tensor([900, 300]))
    for step, t in enumerate((900, 300)):
        for image in range(2):
            one = BlockReweighting(weights[step, image])
            prune = AttentionPruning(skipped[step, image])
            with one.attached_to(family.network), prune.attached_to(family.network):
                alone = family(t, slice(image, image + 1))[0]
            torch.testing.assert_close(together[t][image], alone)
    torch.testing.assert_close(mixed[0], together[900][0])
    torch.testing.assert_close(mixed[1], together[300][1])


def test_next_to_skip_tuning_and_freeu(family):
    """Each acts on its own place: attached in either order they give the same, and leave nothing behind."""
    untouched = family()
    network = family.network
    tuning, weights = SkipTuning.interpolated(0.7), BlockReweighting(family.weights(b1=1.2))
    network.enable_freeu(s1=0.9, s2=0.2, b1=1.4, b2=1.6)
    with tuning.attached_to(network), weights.attached_to(network):
        one = family()
    with weights.attached_to(network), tuning.attached_to(network):
        assert torch.equal(family(), one)
    with tuning.attached_to(network):
        assert (family() - one).abs().max() > 1e-4
    network.disable_freeu()
    with weights.attached_to(network), tuning.attached_to(network):
        assert (family() - one).abs().max() > 1e-4
    assert family.restored() and torch.equal(family(), untouched)


def test_nested_weights_multiply_and_an_exception_restores(family):
    untouched = family()
    with BlockReweighting(family.weights(b1=1.21)).attached_to(family.network):
        expected = family()
    with (
        BlockReweighting(family.weights(b1=1.1)).attached_to(family.network),
        BlockReweighting(family.weights(b1=1.1)).attached_to(family.network),
    ):
        torch.testing.assert_close(family(), expected)
    mask = skipping(family.blocks, [[3]])
    with pytest.raises(ValueError), AttentionPruning(mask).attached_to(family.network):
        raise ValueError
    assert family.restored() and torch.equal(family(), untouched)


def test_gradients_pass(family):
    weights = torch.ones(2, len(family.blocks))
    weights[1, 1] = 1.1
    mask = torch.zeros(1, 2, len(family.blocks), dtype=torch.bool)
    mask[0, 0, 2] = True
    x = family.x.clone().requires_grad_()
    with (
        BlockReweighting(weights[None]).attached_to(family.network),
        AttentionPruning(mask).attached_to(family.network),
    ):
        family.network(x, 300, **family.named).sample.square().sum().backward()
    assert torch.isfinite(x.grad).all() and bool((x.grad.abs().amax(dim=(1, 2, 3)) > 0).all())


def test_compiled_after_attaching():
    network = tiny_unet(
        diffusers, "sd", block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
    )  # fmt: skip
    x, named = inputs("sd")
    with (
        BlockReweighting(torch.tensor([1.2, 1.0, 1.0])).attached_to(network),
        AttentionPruning(torch.tensor([False, False, True])).attached_to(network),
    ):
        expected = network(x, 300, **named).sample
        compiled = torch.compile(network, backend="eager")
        torch.testing.assert_close(compiled(x, 300, **named).sample, expected)
    torch.compiler.reset()


def test_unconditional_network_with_plain_attention():
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        8, 3, 3, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    ).eval().requires_grad_(False)  # fmt: skip
    blocks = find_transformer_blocks(network)
    assert [(block.number, block.name) for block in blocks] == [
        (1, "down_blocks.1"), (2, "mid_block"), (3, "up_blocks.0"),
    ]  # fmt: skip
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    untouched = network(x, 300).sample
    with AttentionPruning(skipping(blocks, [[1, 3]])).attached_to(network) as count:
        assert (network(x, 300).sample - untouched).abs().max() > 1e-4
    assert count.skipped == 6
    with BlockReweighting(torch.tensor([1, 1.1, 1])).attached_to(network):
        assert (network(x, 300).sample - untouched).abs().max() > 1e-4
    assert torch.equal(network(x, 300).sample, untouched)


def one_line(message):
    return pytest.raises(SkiptuneError, match=message)


def test_mistakes_are_one_line(family):
    network, m = family.network, len(family.blocks)
    with one_line("3 values for a network with . transformer blocks"):
        BlockReweighting(torch.full((3,), 1.1)).attached_to(network).__enter__()
    with one_line("block weights must be finite numbers from 0 up"):
        BlockReweighting(torch.tensor([1.0, float("nan")]))
    with one_line("unknown part 'input' of a transformer block"):
        BlockReweighting(torch.ones(m), part="input")
    with one_line("block weights for 3 steps need as many noise levels, not 2"):
        BlockReweighting(torch.ones(3, m), (2.0, 1.0))
    with one_line("true or false"):
        AttentionPruning(torch.zeros(m))
    with one_line("there is no transformer block 9: the network has"):
        skipping(family.blocks, [[9]])
    with one_line("UNet2DConditionModel is not called with sigma"):
        BlockReweighting(torch.full((2, m), 1.1), (2.0, 1.0)).attached_to(network).__enter__()
    with (
        one_line("values for 3 images, but the network is called with 2"),
        BlockReweighting(torch.full((1, 3, m), 1.1)).attached_to(network),
    ):
        family()
    assert family.restored()


def test_other_networks_have_no_transformer_blocks():
    from skiptune.denoisers import VPPrecond

    denoiser = VPPrecond(8, 3, model_channels=8, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[])
    with one_line("found in U-Nets of diffusers, .* is of the family EDM"):
        find_transformer_blocks(denoiser)
    plain = diffusers.UNet2DModel(
        8, 3, 3, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4, add_attention=False,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    with one_line("UNet2DModel has no attention"):
        find_transformer_blocks(plain)
