import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, find_skip_sites, record_skip_norms


@pytest.fixture(scope="module")
def setting(golden):
    _, denoiser, io = golden("edm_adm_straddle")
    return denoiser, find_skip_sites(denoiser), io


def call(denoiser, io, sigma=2.5):
    return denoiser(io["x"][2], torch.tensor(sigma), io["class_labels"])


def test_proportions_are_those_of_the_official_network(setting):
    denoiser, sites, io = setting
    with record_skip_norms(denoiser) as record:
        output = call(denoiser, io)
    torch.testing.assert_close(record.u[0], io["skip_u_norms"], rtol=1e-4, atol=1e-4)
    expected = (io["skip_d_norms"] / io["skip_u_norms"]).mean(dim=1)
    torch.testing.assert_close(record.proportions(), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(output, call(denoiser, io))


def test_mean_over_calls(setting):
    denoiser, sites, io = setting
    with record_skip_norms(denoiser) as first:
        call(denoiser, io)
    with record_skip_norms(denoiser) as both:
        call(denoiser, io)
        call(denoiser, io, 40.0)
    with record_skip_norms(denoiser) as second:
        call(denoiser, io, 40.0)
    assert len(both.u) == 2 and both.u[0].dtype == torch.float64
    torch.testing.assert_close(both.proportions(), (first.proportions() + second.proportions()) / 2)


def test_order_decides_whether_the_intervention_is_seen(setting):
    denoiser, sites, io = setting
    tuning = SkipTuning((0.5,) * len(sites))
    with record_skip_norms(denoiser, sites[:1]) as plain, tuning.attached_to(denoiser):
        call(denoiser, io)
    with tuning.attached_to(denoiser), record_skip_norms(denoiser, sites[:1]) as tuned:
        call(denoiser, io)
    torch.testing.assert_close(tuned.d[0], plain.d[0] / 2)
    assert torch.equal(tuned.u[0], plain.u[0])


def test_nothing_recorded(setting):
    denoiser, sites, _ = setting
    with record_skip_norms(denoiser) as record:
        pass
    with pytest.raises(SkiptuneError, match="no skip norms were recorded"):
        record.proportions()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in denoiser.modules())
