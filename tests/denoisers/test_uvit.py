import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from experiments.golden.networks import Unsupported
from experiments.golden.uvit import build_uvit, check_uvit
from skiptune.denoisers.uvit import Attention, UViT
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, find_skip_sites

REPOSITORY = Path(__file__).parents[2]
KEPT, SHARED = REPOSITORY / "tests/data/golden", REPOSITORY.parent / "shared/golden"
TINY = {
    "img_size": 8, "patch_size": 2, "in_chans": 3, "embed_dim": 16, "depth": 5, "num_heads": 2,
    "num_classes": 4, "mlp_time_embed": True, "conv": False,
}  # fmt: skip
LATENT = {"img_size": 32, "patch_size": 2, "in_chans": 4, "num_heads": 16, "num_classes": 1001}


def entry_of(root, case):
    return next(e for e in json.loads((root / "manifest.json").read_text())["cases"] if e["case"] == case)


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(**changes):
    """A small network in evaluation mode, its linear layers enlarged so that every one matters."""
    torch.manual_seed(0)
    network = UViT(**{**TINY, **changes})
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.2)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("root", "case"), [(KEPT, "uvit"), (SHARED, "uvit"), (SHARED, "uvit_uncond")], ids=lambda x: str(x)[-6:]
)
def test_equals_the_official_network(root, case):
    if not (root / case).is_dir():
        pytest.skip("no shared/golden beside the repository")
    entry = entry_of(root, case)
    results = list(check_uvit(root / case, entry))
    assert [result for result in results if not result.passed] == []
    listed = {name for name, io in entry["io"].items() if io["role"] == "output"}
    facts = {"num_parameters", "num_state_dict_entries", "skip_connections"}
    assert {result.tensor for result in results} == listed | facts


def test_what_differs_is_noticed(tmp_path):
    entry = entry_of(KEPT, "uvit")
    state = load_file(KEPT / "uvit/weights.safetensors")
    state["out_blocks.1.mlp.fc1.weight"] *= 1.01
    save_file(state, tmp_path / "weights.safetensors")
    shutil.copy(KEPT / "uvit/io.safetensors", tmp_path)
    failed = {result.tensor for result in check_uvit(tmp_path, entry) if not result.passed}
    assert failed == {"out", "out_mixed", "out_rho_full"}  # it comes after the last skip
    swapped = [{**skip, "source": "in_blocks.0"} for skip in entry["skip_connections"]]
    failed = {
        result.tensor
        for result in check_uvit(KEPT / "uvit", {**entry, "skip_connections": swapped})
        if not result.passed
    }
    assert failed == {"skip_connections"}


def test_unknown_arguments_are_not_supported():
    with pytest.raises(Unsupported, match="wider"):
        build_uvit({"class": "UViT", "kwargs": {**TINY, "wider": 2}})


@pytest.mark.parametrize(
    ("kwargs", "parameters", "sites"),
    [
        ({"embed_dim": 1152, "depth": 28, "conv": False}, 500_832_016, 14),
        ({"embed_dim": 1024, "depth": 20}, 286_763_172, 10),
    ],
    ids=["huge", "large"],
)
def test_full_size(kwargs, parameters, sites):
    with torch.device("meta"):
        network = UViT(**LATENT, **kwargs)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    found = find_skip_sites(network)
    assert len(found) == sites
    assert {(site.channel_dim, site.matching, site.resolution) for site in found} == {(-1, True, 16)}


def test_labels_are_one_hot_rows_or_numbers():
    network, x, t = tiny(), normal(2, 3, 8, 8), torch.tensor([3.0, 700.5])
    labels = torch.tensor([3, 1])
    out = network(x, t, F.one_hot(labels, 4).float())
    assert torch.equal(out, network(x, t, labels))
    assert (out - network(x, t, torch.tensor([0, 1])))[0].abs().max() > 1e-3
    torch.testing.assert_close(network(x, t, F.one_hot(labels[:1], 4))[0], out[0])  # one row for all
    with pytest.raises(SkiptuneError, match=r"class-conditional: give it labels, one-hot \[N, 4\]"):
        network(x, t)


def test_times_are_one_for_all_or_one_per_image():
    network, x, labels = tiny(), normal(2, 3, 8, 8), torch.tensor([3, 1])
    same = network(x, torch.tensor(20), labels)
    torch.testing.assert_close(network(x, torch.tensor([20.0, 20.0]), labels), same)
    mixed = network(x, torch.tensor([20, 900]), labels)
    torch.testing.assert_close(mixed[0], same[0])
    assert (mixed[1] - same[1]).abs().max() > 1e-3


def test_unconditional_network_has_one_token_less():
    network, x, t = tiny(num_classes=-1), normal(2, 3, 8, 8), torch.tensor(5)
    assert network.pos_embed.shape == (1, 17, 16) and not hasattr(network, "label_emb")
    assert torch.equal(network(x, t, torch.tensor([1, 2])), network(x, t))


def test_patches_lie_row_by_row():
    network, x = tiny(), normal(2, 3, 8, 8)
    patches = [x[:, :, i : i + 2, j : j + 2] for i in range(0, 8, 2) for j in range(0, 8, 2)]
    tokens = torch.stack([patch.permute(0, 2, 3, 1).flatten(1) for patch in patches], dim=1)
    assert torch.equal(network.unpatchify(tokens), x)


@pytest.mark.parametrize("scale", [None, 0.1])
def test_attention_is_the_published_formula(scale):
    torch.manual_seed(0)
    layer, x = Attention(16, 4, qkv_bias=True, qk_scale=scale), normal(2, 5, 16)
    q, k, v = layer.qkv(x).reshape(2, 5, 3, 4, 4).permute(2, 0, 3, 1, 4)
    weight = (q @ k.transpose(-2, -1) * (scale or 1 / math.sqrt(4))).softmax(dim=-1)
    expected = layer.proj((weight @ v).transpose(1, 2).reshape(2, 5, 16))
    torch.testing.assert_close(layer(x), expected)


def test_scaled_skips_act_on_every_token():
    network, x, t, labels = tiny(), normal(2, 3, 8, 8), torch.tensor(40), torch.tensor([0, 2])
    neutral = network(x, t, labels)
    with SkipTuning((1.0, 1.0)).attached_to(network):
        assert torch.equal(network(x, t, labels), neutral)
    with SkipTuning((0.5, 0.8)).attached_to(network):
        tuned = network(x, t, labels)
    for block, rho in zip(network.out_blocks, (0.5, 0.8), strict=True):  # the same through the weights
        block.skip_linear.weight[:, 16:] *= rho
    torch.testing.assert_close(network(x, t, labels), tuned)
    assert (tuned - neutral).abs().max() > 1e-3


def test_without_skips():
    network = tiny(skip=False)
    assert not any("skip_linear" in name for name in network.state_dict())
    assert network(normal(2, 3, 8, 8), torch.tensor(5), torch.tensor([1])).shape == (2, 3, 8, 8)


def test_weights_can_be_assigned_to_a_network_without_memory():
    network = tiny()
    with torch.device("meta"):
        empty = UViT(**TINY)
    empty.load_state_dict(network.state_dict(), assign=True)
    x, t, labels = normal(2, 3, 8, 8), torch.tensor(40), torch.tensor([0, 2])
    with torch.no_grad():
        assert torch.equal(empty.eval()(x, t, labels), network(x, t, labels))


def test_mistakes_are_named():
    with pytest.raises(SkiptuneError, match="embed_dim 16 cannot be split into 3 attention heads"):
        UViT(**{**TINY, "num_heads": 3})
    with pytest.raises(SkiptuneError, match="img_size 8 is no multiple of patch_size 3"):
        UViT(**{**TINY, "patch_size": 3})
    with pytest.raises(SkiptuneError, match=r"shape \[2, 3, 16, 16\], this U-ViT takes \[N, 3, 8, 8\]"):
        tiny()(normal(2, 3, 16, 16), torch.tensor(1), torch.tensor([1, 1]))
