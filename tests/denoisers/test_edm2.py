import copy
import json
import math
import pickle
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from experiments.golden.edm2 import build_edm2, check_edm2
from experiments.golden.networks import Unsupported
from skiptune.denoisers.edm2 import Block, EDM2Precond
from skiptune.denoisers.edm2_layers import (
    MPConv,
    Resampling,
    concat_weights,
    mp_cat,
    mp_silu,
    mp_sum,
    normalize,
    self_attention,
)
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, find_skip_sites

REPOSITORY = Path(__file__).parents[2]
KEPT, SHARED = REPOSITORY / "tests/data/golden", REPOSITORY.parent / "shared/golden"
TINY = {
    "img_resolution": 8, "img_channels": 3, "label_dim": 3, "model_channels": 8, "channel_mult": [1, 2],
    "num_blocks": 1, "attn_resolutions": [4], "channels_per_head": 8, "logvar_channels": 4,
}  # fmt: skip


def entry_of(root, case="edm2"):
    return next(e for e in json.loads((root / "manifest.json").read_text())["cases"] if e["case"] == case)


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(**changes):
    """A small network in evaluation mode whose gains are not 0, so that every layer matters."""
    torch.manual_seed(0)
    denoiser = EDM2Precond(**{**TINY, **changes})
    for name, parameter in denoiser.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.constant_(parameter, 0.7)
    return denoiser.eval().requires_grad_(False)


@pytest.mark.parametrize("root", [KEPT, SHARED], ids=["kept", "shared"])
def test_equals_the_official_network(root):
    if not (root / "edm2").is_dir():
        pytest.skip("no shared/golden beside the repository")
    entry = entry_of(root)
    results = list(check_edm2(root / "edm2", entry))
    assert [result for result in results if not result.passed] == []
    listed = {name for name, io in entry["io"].items() if io["role"] == "output"}
    facts = {"num_parameters", "num_state_dict_entries", "skip_connections"}
    assert {result.tensor for result in results} == listed | facts


def test_what_differs_is_noticed(tmp_path):
    state = load_file(KEPT / "edm2/weights.safetensors")
    state["unet.dec.8x8_block1.emb_gain"] *= 1.01
    save_file(state, tmp_path / "weights.safetensors")
    shutil.copy(KEPT / "edm2/io.safetensors", tmp_path)
    failed = {result.tensor for result in check_edm2(tmp_path, entry_of(KEPT)) if not result.passed}
    # The uncertainty and the inputs of the last skip at 8x8 do not depend on it.
    assert failed == {"D", "D_no_labels", "D_rho_full", "skip_u_norms"}


def test_unknown_arguments_are_not_supported():
    with pytest.raises(Unsupported, match="wider"):
        build_edm2({"class": "Precond", "kwargs": {**TINY, "wider": 2}})


@pytest.mark.parametrize(
    ("model_channels", "parameters"),
    [(128, 124_710_949), (192, 280_209_381), (256, 497_803_173), (320, 777_492_325), (384, 1_119_276_837),
     (448, 1_523_156_709)],
    ids=["xs", "s", "m", "l", "xl", "xxl"],
)  # fmt: skip
def test_full_size(model_channels, parameters):
    with torch.device("meta"):
        denoiser = EDM2Precond(64, 3, 1000, model_channels=model_channels)
    assert sum(parameter.numel() for parameter in denoiser.parameters()) == parameters
    sites = find_skip_sites(denoiser)
    assert len(sites) == 16
    assert [sites[0].resolution, sites[-1].resolution] == [8, 64]


def test_unit_magnitude_is_kept():
    a, b = normal(64, 48, 8, 8, seed=1), normal(64, 16, 8, 8, seed=2)
    assert mp_silu(a).square().mean().sqrt() == pytest.approx(1, abs=0.01)
    assert mp_sum(a[:, :16], b, 0.3).square().mean().sqrt() == pytest.approx(1, abs=0.01)
    assert normalize(5 * a, dim=1).square().mean(dim=1).sqrt() == pytest.approx(1, abs=1e-3)
    for t in (0.5, 0.3):
        both = mp_cat(a, b, t)
        assert both.square().mean().sqrt() == pytest.approx(1, abs=0.01)
        u, d = both[:, :48].norm(), both[:, 48:].norm()
        assert d / u == pytest.approx(t / (1 - t), rel=0.02)
        w_u, w_d = concat_weights(48, 16, t)
        assert torch.equal(both, torch.cat([w_u * a, w_d * b], dim=1))
    conv, linear = MPConv(48, 32, 3), MPConv(48, 32)
    with torch.no_grad():
        for layer, x in ((conv, a), (linear, a[:, :, 0, 0])):
            layer.weight.mul_(3)
            inner = layer(x)[..., 1:-1, 1:-1] if x.dim() == 4 else layer(x)
            assert inner.square().mean().sqrt() == pytest.approx(1, abs=0.1)


def test_training_normalises_the_stored_weights():
    layer = MPConv(4, 6, 3)
    with torch.no_grad():
        layer.weight.mul_(5)
    layer.eval()(normal(1, 4, 5, 5))
    assert layer.weight.square().mean() > 10
    layer.train()(normal(1, 4, 5, 5)).sum().backward()
    assert layer.weight.flatten(1).square().mean(dim=1).tolist() == pytest.approx([1] * 6, abs=1e-3)
    assert layer.weight.grad.abs().max() > 0


def change_in_place(layer):
    with torch.no_grad():
        layer.weight[:, 0].add_(1)


def optimise(layer):
    layer.weight.grad = layer.weight.detach().clone()
    layer.weight.grad[:, 1] *= -1
    torch.optim.SGD(layer.parameters(), lr=0.5).step()


def shift_data(layer):
    layer.weight.data[:, 0] += 1
    layer.eval()


CHANGES = {
    "in place": change_in_place,
    "optimiser": optimise,
    "data": shift_data,
    "loaded": lambda layer: layer.load_state_dict({"weight": normal(5, 4, seed=3)}),
    "assigned": lambda layer: layer.load_state_dict({"weight": normal(5, 4, seed=3)}, assign=True),
    "replaced": lambda layer: setattr(layer, "weight", torch.nn.Parameter(normal(5, 4, seed=3))),
    "trained": lambda layer: (layer.train(), change_in_place(layer), layer.eval()),
    "rounded": lambda layer: layer.to(torch.bfloat16).to(torch.float32),
}


@pytest.mark.parametrize("change", CHANGES)
def test_kept_weight_is_never_old(change):
    torch.manual_seed(0)
    layer, x, gain = MPConv(4, 5).eval(), normal(2, 4), torch.nn.Parameter(torch.tensor(0.3))
    with torch.no_grad():
        before = layer(x, gain)
        assert layer.scaled(gain, x.dtype) is layer.scaled(gain, x.dtype)
        CHANGES[change](layer)
        after = layer(x, gain)
        assert torch.equal(after, x @ layer.compute(gain, x.dtype).t())
        assert not torch.equal(after, before)
        gain.mul_(2)
        torch.testing.assert_close(layer(x, gain), 2 * after)
        assert layer.scaled(gain, torch.float16).dtype == torch.float16


def test_kept_weight_does_not_stand_in_the_way_of_gradients():
    layer, x = MPConv(4, 5).eval(), normal(2, 4).requires_grad_()
    with torch.inference_mode():
        expected = layer(x)
    layer.weight.requires_grad_(False)
    out = layer(x)
    assert torch.equal(out, expected)
    out.sum().backward()
    torch.testing.assert_close(x.grad[0], layer.compute(None, x.dtype).sum(0))
    layer.weight.requires_grad_(True)
    layer(x).sum().backward()
    assert layer.weight.grad.abs().max() > 0


def test_copies_and_files_do_not_carry_the_kept_weight():
    layer = MPConv(4, 5).eval().requires_grad_(False)
    layer(normal(2, 4))
    assert layer.kept is not None
    assert copy.deepcopy(layer).kept is None and pickle.loads(pickle.dumps(layer)).kept is None
    assert layer.state_dict().keys() == {"weight"}


def test_attention_is_the_published_formula():
    heads, width, size = 2, 8, 3
    qkv = normal(2, 3 * heads * width, size, size)
    q, k, v = normalize(qkv.reshape(2, heads, width, 3, size * size), dim=2).unbind(3)
    weight = torch.einsum("nhcq,nhck->nhqk", q, k / math.sqrt(width)).softmax(dim=3)
    expected = torch.einsum("nhqk,nhck->nhcq", weight, v).reshape(2, heads * width, size, size)
    torch.testing.assert_close(self_attention(qkv, heads), expected)


@pytest.mark.parametrize("mode", ["up", "down"])
def test_box_filter_is_the_general_filter(mode):
    x = normal(2, 3, 4, 6)
    torch.testing.assert_close(Resampling(mode, [1, 1])(x), Resampling(mode, [2, 2])(x))
    assert Resampling("keep", [1, 1])(x) is x


def test_paths_of_a_decoder_block_are_where_hooks_find_them():
    torch.manual_seed(0)
    block, x, emb = Block(12, 8, 4, "dec").eval(), normal(2, 12, 4, 4), normal(2, 4)
    scale = torch.linspace(0.5, 1, 12).reshape(1, -1, 1, 1)
    with torch.no_grad():
        expected = block(scale * x, emb)
        handles = [
            path.register_forward_pre_hook(lambda _, args: (scale * args[0], *args[1:]))
            for path in (block.act0, block.conv_skip)
        ]
        assert torch.equal(block(x, emb), expected)
        for handle in handles:
            handle.remove()
        assert not torch.equal(block(x, emb), expected)


def test_skip_tuning_scales_the_skip_before_its_weight():
    denoiser = tiny(concat_balance=0.3)
    x, sigma, labels = normal(2, 3, 8, 8), torch.tensor(1.5), torch.eye(3)[:2]
    sites = find_skip_sites(denoiser)
    neutral = denoiser(x, sigma, labels)
    with SkipTuning((1.0,) * len(sites)).attached_to(denoiser):
        assert torch.equal(denoiser(x, sigma, labels), neutral)
    last = sites[-1]
    seen = []
    handle = last.block.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    denoiser(x, sigma, labels)
    handle.remove()
    u, d = (part / weight for part, weight in zip(last.split(seen[0]), last.balance, strict=True))
    scaled = mp_cat(u, 0.6 * d, 0.3)
    handle = last.block.register_forward_pre_hook(lambda _, args: (scaled, *args[1:]))
    expected = denoiser(x, sigma, labels)
    handle.remove()
    with SkipTuning((1.0,) * (len(sites) - 1) + (0.6,)).attached_to(denoiser):
        torch.testing.assert_close(denoiser(x, sigma, labels), expected)
    assert (expected - neutral).abs().max() > 1e-3


def test_conditions():
    denoiser = tiny()
    x, sigma = normal(2, 3, 8, 8), torch.tensor([0.5, 3.0])
    assert (denoiser.num_classes, denoiser.image_shape) == (3, (3, 8, 8))
    zeros = denoiser(x, sigma, torch.zeros(2, 3))
    torch.testing.assert_close(denoiser(x, sigma), zeros)
    assert (denoiser(x, sigma, torch.eye(3)[:2]) - zeros).abs().max() > 1e-3
    torch.testing.assert_close(denoiser(x[1:], sigma[1]), zeros[1:])
    free = tiny(label_dim=0)
    assert "unet.emb_label.weight" not in free.state_dict()
    assert torch.equal(free(x, sigma, torch.eye(3)[:2]), free(x, sigma))
    assert denoiser.logvar(sigma).shape == (2, 1, 1, 1)
    assert torch.equal(denoiser.logvar(sigma[1]), denoiser.logvar(sigma)[1:])


def test_half_precision_stays_near_single():
    unet = tiny().unet
    x, label, labels = normal(2, 3, 8, 8), torch.tensor([0.2]), torch.eye(3)[:2]
    half = unet(x.half(), label, labels)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), unet(x, label, labels), rtol=0.02, atol=0.02)


def test_activations_are_clipped():
    x, sigma = 1e4 * normal(1, 3, 8, 8), torch.tensor(0.01)
    seen = []
    for clip in (1.5, None):
        denoiser = tiny(clip_act=clip)
        block = denoiser.unet.dec["8x8_block1"]
        block.register_forward_hook(lambda _, args, output: seen.append(float(output.abs().max())))
        denoiser(x, sigma)
    assert seen[0] == 1.5 < seen[1]


def test_weights_can_be_assigned_to_a_network_without_memory():
    denoiser = tiny(resample_filter=[1, 3, 3, 1])
    with torch.device("meta"):
        empty = EDM2Precond(**TINY, resample_filter=[1, 3, 3, 1])
    empty.load_state_dict(denoiser.state_dict(), assign=True)
    x, sigma = normal(2, 3, 8, 8), torch.tensor(1.0)
    with torch.no_grad():
        assert torch.equal(empty.eval()(x, sigma), denoiser(x, sigma))


def test_training_step_reaches_every_parameter():
    denoiser = tiny(dropout=0.1).train().requires_grad_(True)
    x, sigma = normal(2, 3, 8, 8), torch.tensor([0.4, 2.0])
    log = denoiser.logvar(sigma)
    loss = (F.mse_loss(denoiser(x, sigma, torch.eye(3)[:2]), x, reduction="none") / log.exp() + log).mean()
    loss.backward()
    without = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_heads_must_divide_the_width():
    with pytest.raises(SkiptuneError, match="change channels_per_head"):
        Block(14, 14, 4, attention=True, channels_per_head=4)
