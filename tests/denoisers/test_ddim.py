import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from experiments.golden.ddim import build_ddim, check_ddim_network, input_index
from experiments.golden.networks import Unsupported
from skiptune.denoisers.ddim import DDIMUNet, ddim_kwargs, ddim_state
from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, find_skip_sites

REPOSITORY = Path(__file__).parents[2]
KEPT, SHARED = REPOSITORY / "tests/data/golden", REPOSITORY.parent / "shared/golden"
CASE = "ddim_unet_deep"
SMALL = {
    "ch": 32, "out_ch": 3, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4], "dropout": 0.3,
    "resamp_with_conv": True, "in_channels": 3, "image_size": 8,
}  # fmt: skip
PUBLISHED = {
    "ch": 128, "out_ch": 3, "num_res_blocks": 2, "attn_resolutions": [16], "dropout": 0.1,
    "resamp_with_conv": True, "in_channels": 3,
}  # fmt: skip


def entry_of(root, case):
    return next(e for e in json.loads((root / "manifest.json").read_text())["cases"] if e["case"] == case)


def small(**changes):
    torch.manual_seed(0)
    return DDIMUNet(**{**SMALL, **changes})


def images(count=2, size=8):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("root", "case"), [(KEPT, CASE), (SHARED, CASE), (SHARED, "ddim_unet")])
def test_equals_the_official_network(root, case):
    if not (root / case).is_dir():
        pytest.skip("no shared/golden beside the repository")
    entry = entry_of(root, case)
    results = list(check_ddim_network(root / case, entry))
    assert [result for result in results if not result.passed] == []
    listed = {name for name, io in entry["io"].items() if io["role"] == "output"}
    assert {result.tensor for result in results} == listed | {
        "buffers", "num_parameters", "num_state_dict_entries", "skip_connections",
    }  # fmt: skip


def test_what_differs_is_noticed(tmp_path):
    entry = entry_of(KEPT, CASE)
    state = load_file(KEPT / CASE / "weights.safetensors")
    state["conv_out.weight"] *= 1.001
    save_file(state, tmp_path / "weights.safetensors")
    shutil.copy(KEPT / CASE / "io.safetensors", tmp_path)
    other = {**entry, "num_parameters": 1, "skip_connections": entry["skip_connections"][::-1]}
    failed = {result.tensor for result in check_ddim_network(tmp_path, other) if not result.passed}
    assert failed == {
        "num_parameters", "skip_connections", "eps", "eps_mixed", "eps_rho_full", "eps_rho_residual",
        "eps_rho_norm1",
    }  # fmt: skip


def test_state_dict_has_the_published_names_and_shapes():
    network = build_ddim(entry_of(KEPT, CASE)["constructor"])
    own = {name: list(value.shape) for name, value in network.state_dict().items()}
    with safe_open(KEPT / CASE / "weights.safetensors", "pt") as file:
        assert own == {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(
    ("ch_mult", "image_size", "parameters", "sites", "bottom"),
    [([1, 2, 2, 2], 32, 35_746_307, 12, 4), ([1, 2, 2, 2, 4], 64, 78_700_803, 15, 4)],
    ids=["cifar10", "celeba"],
)
def test_published_networks_at_full_size(ch_mult, image_size, parameters, sites, bottom):
    with torch.device("meta"):
        network = DDIMUNet(ch_mult=ch_mult, image_size=image_size, **PUBLISHED)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    found = find_skip_sites(network)
    assert len(found) == sites
    assert [found[0].resolution, found[-1].resolution] == [bottom, image_size]


def test_one_time_serves_all_images_and_whole_numbers_are_times():
    network, x = small().eval(), images()
    with torch.no_grad():
        expected = network(x, torch.tensor([7.0, 7.0]))
        torch.testing.assert_close(network(x, torch.tensor([7])), expected)
        torch.testing.assert_close(network(x, torch.tensor(7)), expected)
        assert (network(x, torch.tensor([7.5])) - expected).abs().max() > 1e-5


def test_dropout_acts_in_training_only():
    network, x, t = small(), images(), torch.tensor([3.0])
    assert not torch.equal(network(x, t), network(x, t))
    network.eval()
    assert torch.equal(network(x, t), network(x, t))


def test_gradients_reach_every_parameter_and_equal_finite_differences():
    network = small(ch=64, dropout=0.0).double()  # with 32 channels, norms of single ones hide constants
    x, t = images().double(), torch.tensor([3.0, 500.0])
    loss = network(x, t).square().mean()
    loss.backward()
    # A constant added to all keys of an attention layer changes no weight of its softmax.
    dead = {name for name, p in network.named_parameters() if p.grad.abs().max() < 1e-12}
    assert dead == {name for name, _ in network.named_parameters() if name.endswith(".k.bias")}
    parameter = network.up[1].block[1].nin_shortcut.weight
    slope, step = parameter.grad[5, 7, 0, 0].item(), 1e-5
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            parameter[5, 7, 0, 0] += sign * step
            values.append(network(x, t).square().mean().item())
            parameter[5, 7, 0, 0] -= sign * step
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


def test_prediction_with_and_without_gradients_is_the_same():
    network, x, t = small().eval(), images(), torch.tensor([3.0])
    kept = x.clone()
    with torch.no_grad():
        without = network(x, t)
    torch.testing.assert_close(network(x, t), without)
    assert torch.equal(x, kept)


def test_neutral_skip_tuning_changes_no_bit():
    network, x, t = small().eval(), images(), torch.tensor([3.0])
    sites = find_skip_sites(network)
    with torch.no_grad():
        untouched = network(x, t)
        with SkipTuning((1.0,) * len(sites)).attached_to(network):
            assert torch.equal(network(x, t), untouched)


def test_resampling_without_convolutions():
    network = small(resamp_with_conv=False).eval()
    assert not [name for name in network.state_dict() if "sample" in name]
    assert network(images(), torch.tensor([3.0])).shape == (2, 3, 8, 8)


def test_bayesian_type_has_its_log_variances():
    network = small(type="bayesian", num_diffusion_timesteps=50)
    assert network.state_dict().keys() - small().state_dict().keys() == {"logvar"}
    assert network.logvar.shape == (50,)


def test_images_of_another_size_are_refused():
    with pytest.raises(SkiptuneError, match=r"shape \[2, 3, 16, 16\], expected \[N, 3, 8, 8\]"):
        small()(images(size=16), torch.tensor([3.0]))


def test_official_configuration():
    config = {
        "data": {"dataset": "CIFAR10", "image_size": 8, "channels": 3},
        "model": {
            "type": "simple", "var_type": "fixedlarge", "ema_rate": 0.9999,
            **{name: value for name, value in SMALL.items() if name != "image_size"},
        },
        "diffusion": {"beta_schedule": "linear", "num_diffusion_timesteps": 1000},
    }  # fmt: skip
    assert ddim_kwargs(config) == {**SMALL, "type": "simple", "num_diffusion_timesteps": 1000}
    del config["model"]["ch_mult"]
    with pytest.raises(SkiptuneError, match="lacks 'ch_mult'"):
        ddim_kwargs(config)
    with pytest.raises(Unsupported, match="lacks 'model'"):
        build_ddim({"class": "Model"})


def test_official_checkpoints():
    state = small().state_dict()
    average = {name: value + 1 for name, value in state.items()}
    parallel = {f"module.{name}": value for name, value in state.items()}
    optimizer = {"state": {}, "param_groups": [{"lr": 2e-4}]}
    assert ddim_state(state) == state
    assert ddim_state(parallel).keys() == state.keys()
    assert all(value is state[name] for name, value in ddim_state([parallel, optimizer, 3, 50]).items())
    averaged = ddim_state([parallel, optimizer, 3, 50, average])
    assert averaged.keys() == state.keys() and all(averaged[name] is average[name] for name in average)
    small().load_state_dict(averaged, strict=True)


@pytest.mark.parametrize("checkpoint", [None, [], {}, [3], {"epoch": 3}, [{"conv_in.weight": 1}]])
def test_other_files_are_refused(checkpoint):
    with pytest.raises(SkiptuneError):
        ddim_state(checkpoint)


def test_input_of_a_recording_must_be_stated():
    entry = {"case": "c", "io": {"a": {"description": "see b"}, "b": {"description": "input x[3], t[3]"}}}
    assert input_index(entry, "a", "b") == 3
    with pytest.raises(SkiptuneError, match="does not say"):
        input_index(entry, "a")
