import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.interventions import SkipTuning, TimeSchedule, Window, find_skip_sites
from skiptune.interventions.skip_tuning import PLACES

SCHEDULES = {
    "always": (),
    "time": (TimeSchedule("increasing", (80.0, 1.0, 0.1)),),
    "window": (Window(1, 10),),
    "both": (TimeSchedule("decreasing", (80.0, 1.0, 0.1), "log_sigma"), Window(1, 10)),
}


@pytest.fixture(scope="module")
def adm(golden):
    """Network, sites, inputs, recorded tensors; normalisation groups contain channels of both u and d."""
    _, denoiser, io = golden("edm_adm_straddle")
    return denoiser, find_skip_sites(denoiser), (io["x"][2], torch.tensor(2.5), io["class_labels"]), io


def hooks(denoiser):
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in denoiser.modules())


@pytest.mark.parametrize("schedules", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("place", PLACES)
def test_rho_one_is_bit_identical(adm, place, schedules):
    denoiser, sites, inputs, _ = adm
    untouched = denoiser(*inputs)
    with SkipTuning((1.0,) * len(sites), place, schedules).attached_to(denoiser):
        assert hooks(denoiser) >= len(sites)
        assert torch.equal(denoiser(*inputs), untouched)
    assert hooks(denoiser) == 0
    with SkipTuning((0.5,) * len(sites), place, schedules).attached_to(denoiser):
        assert not torch.equal(denoiser(*inputs), untouched)
    assert hooks(denoiser) == 0
    assert torch.equal(denoiser(*inputs), untouched)


@pytest.mark.parametrize(
    ("place", "recorded"), [("input", "full"), ("residual", "residual"), ("norm0_input", "norm0")]
)
def test_places_are_told_apart_by_the_reference(adm, place, recorded):
    denoiser, sites, inputs, io = adm
    with SkipTuning(tuple(io["rho"].tolist()), place).attached_to(denoiser):
        out = denoiser(*inputs)
    names = ["D", "D_rho_full", "D_rho_residual", "D_rho_norm0"]
    distance = {name: float((out - io[name][2]).abs().max()) for name in names}
    assert distance.pop(f"D_rho_{recorded}") < 3e-5
    assert min(distance.values()) > 1e-3


def test_norm_removes_a_scale_unless_a_group_straddles(golden, adm):
    def effect(denoiser, inputs, place):
        sites = find_skip_sites(denoiser)
        untouched = denoiser(*inputs)
        with SkipTuning((0.5,) * len(sites), place).attached_to(denoiser):
            return float((denoiser(*inputs) - untouched).abs().max())

    _, separate, io = golden("edm_vp_precond")
    inputs = (io["x"][2], torch.tensor(2.5))
    assert effect(separate, inputs, "norm0_input") < 1e-3 * effect(separate, inputs, "norm0_output")
    straddling, _, inputs, _ = adm
    assert effect(straddling, inputs, "norm0_input") > 0.05 * effect(straddling, inputs, "norm0_output")


@pytest.mark.parametrize("place", PLACES)
def test_leaving_by_an_exception_restores_the_network(adm, place):
    denoiser, sites, inputs, _ = adm
    untouched = denoiser(*inputs)
    with pytest.raises(KeyError), SkipTuning((0.5,) * len(sites), place).attached_to(denoiser):
        denoiser(*inputs)
        raise KeyError
    assert hooks(denoiser) == 0
    assert torch.equal(denoiser(*inputs), untouched)


@pytest.mark.parametrize("place", PLACES)
def test_a_failing_call_leaves_no_trace(adm, place):
    denoiser, sites, inputs, _ = adm
    x, sigma, labels = inputs
    untouched = denoiser(*inputs)
    with SkipTuning((0.5,) * len(sites), place).attached_to(denoiser):
        tuned = denoiser(*inputs)
        failing = sites[2].block.conv1.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            denoiser(*inputs)
        failing.remove()
        assert torch.equal(denoiser(*inputs), tuned)
        with pytest.raises(RuntimeError):
            denoiser(x[:, :, :, :5], sigma, labels)  # skip and decoder sizes no longer agree
        assert torch.equal(denoiser(*inputs), tuned)
    with pytest.raises(RuntimeError), SkipTuning((0.5,) * len(sites), place).attached_to(denoiser):
        denoiser(x[:, :, :, :5], sigma, labels)
    assert hooks(denoiser) == 0
    assert torch.equal(denoiser(*inputs), untouched)


@pytest.mark.parametrize("place", PLACES)
def test_nested_blocks_multiply(adm, place):
    denoiser, sites, inputs, _ = adm
    with SkipTuning((0.4,) * len(sites), place).attached_to(denoiser):
        expected = denoiser(*inputs)
    outer, inner = (SkipTuning((rho,) * len(sites), place) for rho in (0.8, 0.5))
    with outer.attached_to(denoiser):
        with inner.attached_to(denoiser):
            torch.testing.assert_close(denoiser(*inputs), expected)
        with SkipTuning((0.8,) * len(sites), place).attached_to(denoiser):
            assert not torch.allclose(denoiser(*inputs), expected)
    assert hooks(denoiser) == 0


def test_places_inside_each_other_do_not_disturb(adm):
    denoiser, sites, inputs, _ = adm
    shortcut = SkipTuning((0.5,) * len(sites), "residual")
    norm = SkipTuning((0.5,) * len(sites), "norm0_input")
    with SkipTuning((0.5,) * len(sites)).attached_to(denoiser):
        expected = denoiser(*inputs)
    with shortcut.attached_to(denoiser), norm.attached_to(denoiser):
        torch.testing.assert_close(denoiser(*inputs), expected)
    with norm.attached_to(denoiser), shortcut.attached_to(denoiser):
        torch.testing.assert_close(denoiser(*inputs), expected)


def test_works_across_inference_mode_gradients_and_layouts(adm):
    denoiser, sites, (x, sigma, labels), _ = adm
    with SkipTuning((0.5,) * len(sites)).attached_to(denoiser):
        with torch.inference_mode():
            expected = denoiser(x, sigma, labels).clone()
        x = x.clone().requires_grad_()
        out = denoiser(x, sigma, labels)
        out.sum().backward()
        assert torch.isfinite(x.grad).all() and torch.equal(out.detach(), expected)
    layouts = []
    watch = sites[-1].block.conv0.register_forward_pre_hook(lambda _, args: layouts.append(args[0]))
    with torch.no_grad(), SkipTuning((0.5,) * len(sites)).attached_to(denoiser):
        denoiser(x.to(memory_format=torch.channels_last), sigma, labels)
    watch.remove()
    assert layouts[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("place", PLACES)
def test_half_precision_and_autocast(adm, place):
    denoiser, sites, (x, sigma, labels), _ = adm
    label = torch.tensor([0.2])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        untouched = denoiser(x, sigma, labels)
        with SkipTuning((1.0,) * len(sites), place).attached_to(denoiser):
            assert torch.equal(denoiser(x, sigma, labels), untouched)
    with torch.no_grad(), SkipTuning((0.5,) * len(sites), place).attached_to(denoiser):
        half = denoiser.model((x / 4).half(), label, labels)
        assert half.dtype == torch.float16
        torch.testing.assert_close(half.float(), denoiser.model(x / 4, label, labels), rtol=0.02, atol=0.02)


def test_mistakes_are_refused(adm):
    denoiser, sites, _, _ = adm
    with pytest.raises(
        SkiptuneError, match="unknown place 'output' for Skip-Tuning; choose one of input, residual"
    ):
        SkipTuning((1.0,), "output")
    for bad in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(SkiptuneError, match="positive and finite"):
            SkipTuning((1.0, bad))
    for single in (0.5, ("half",)):
        with pytest.raises(SkiptuneError, match=r"rho is .*, it must be a number for every skip site"):
            SkipTuning(single)
    with (
        pytest.raises(SkiptuneError, match="2 skip coefficients for a network with 6 skip sites"),
        SkipTuning((1.0, 1.0)).attached_to(denoiser),
    ):
        pass
    assert hooks(denoiser) == 0
