from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from skiptune.denoisers import PRECONDITIONINGS, EDMPrecond, VPPrecond, iDDPMPrecond
from skiptune.errors import SkiptuneError

KEPT = Path(__file__).parents[1] / "data/golden"
TINY = {"img_resolution": 8, "img_channels": 3, "model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1}


def test_every_call_counts_once(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    assert denoiser.nfe == 0
    denoiser(io["x"][0], io["sigmas"][0], io["class_labels"])
    denoiser(io["x"][0][:1], io["sigmas"][0])
    assert denoiser.nfe == 2
    denoiser.nfe = 0
    denoiser(io["x"][0], io["sigmas"][0])
    assert denoiser.nfe == 1


def test_noise_level_is_one_for_all_or_one_per_image(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    x, labels = io["x"][2], io["class_labels"]
    same = denoiser(x, torch.tensor(2.5), labels)
    torch.testing.assert_close(denoiser(x, torch.tensor([2.5, 2.5]), labels), same)
    mixed = denoiser(x, torch.tensor([2.5, 0.1]), labels)
    torch.testing.assert_close(mixed[0], same[0])
    assert (mixed[1] - same[1]).abs().max() > 0.01


def test_output_is_float32_whatever_comes_in(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    x, sigma = io["x"][1], io["sigmas"][1]
    out = denoiser(x.double(), sigma.double())
    assert out.dtype == torch.float32 and out.shape == x.shape
    assert torch.equal(out, denoiser(x, sigma.float()))


def test_no_condition_is_a_row_of_zeros(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    x, sigma = io["x"][2], io["sigmas"][2]
    assert denoiser.num_classes == 3 and denoiser.image_shape == (3, 16, 16)
    zeros = denoiser(x, sigma, torch.zeros(2, 3))
    torch.testing.assert_close(denoiser(x, sigma), zeros)
    assert (denoiser(x, sigma, io["class_labels"]) - zeros).abs().max() > 1e-3
    row = torch.tensor([1, 0, 0])
    torch.testing.assert_close(denoiser(x, sigma, row), denoiser(x, sigma, row.expand(2, 3)))


def test_labels_that_are_not_one_hot_are_refused(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    with pytest.raises(SkiptuneError, match=r"condition has shape \[6\], expected one-hot labels \[N, 3\]"):
        denoiser(io["x"][0], io["sigmas"][0], torch.tensor([0, 1, 2, 0, 1, 2]))


def test_unconditional_network_ignores_a_condition(golden):
    _, denoiser, io = golden("edm_vp_precond")
    x, sigma = io["x"][2], io["sigmas"][2]
    assert denoiser.num_classes == 0
    assert torch.equal(denoiser(x, sigma, torch.ones(2, 7)), denoiser(x, sigma))


def test_noise_levels_of_the_network(golden):
    _, vp, _ = golden("edm_vp_precond")
    sigma = torch.tensor([0.3, 4.0], dtype=torch.float64)
    assert torch.equal(vp.round_sigma(sigma), sigma)
    torch.testing.assert_close(vp.schedule.sigma(vp.schedule.time(sigma)), sigma)
    iddpm = iDDPMPrecond(**TINY, M=10)
    rounded = iddpm.round_sigma(sigma)
    assert rounded.dtype == torch.float64
    assert all(level in iddpm.u.tolist() for level in rounded.tolist())
    assert torch.equal(iddpm.round_sigma(rounded), rounded)


def test_half_precision_stays_near_single(golden):
    for case in ("edm_adm", "edm_ve_precond"):
        _, denoiser, io = golden(case)
        x, label = io["x"][2] / 4, torch.tensor([0.2])
        half = denoiser.model(x.half(), label)
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.float(), denoiser.model(x, label), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", PRECONDITIONINGS)
def test_can_be_built_without_memory(name):
    with torch.device("meta"):
        denoiser = PRECONDITIONINGS[name](**TINY)
    assert all(parameter.is_meta for parameter in denoiser.parameters())
    assert denoiser.sigma_min == PRECONDITIONINGS[name](**TINY).sigma_min


def test_weights_can_be_assigned_to_a_network_without_memory(golden):
    entry, denoiser, io = golden("edm_ve_precond")
    with torch.device("meta"):
        empty = type(denoiser)(**entry["constructor"]["kwargs"])
    state = {
        name: value.float() for name, value in load_file(KEPT / "edm_ve_precond/weights.safetensors").items()
    }
    empty.load_state_dict(state, assign=True)
    x, sigma = io["x"][2], io["sigmas"][2]
    with torch.no_grad():
        assert torch.equal(empty.eval()(x, sigma), denoiser(x, sigma))


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="model_type is 'UNet'"):
        EDMPrecond(8, 3, model_type="UNet")
    with pytest.raises(ValueError, match="encoder_type is 'wide', expected one of standard, skip, residual"):
        VPPrecond(**TINY, encoder_type="wide")
