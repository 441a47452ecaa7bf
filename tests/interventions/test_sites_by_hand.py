"""A network of no known family, whose sites are named by hand, and which uses its concatenation again."""

import pytest
import torch
from torch import nn

from skiptune.denoisers import VPPrecond
from skiptune.errors import SkiptuneError
from skiptune.interventions import (
    FreeU,
    SkipSite,
    SkipTuning,
    TimeSchedule,
    Window,
    find_skip_sites,
    record_skip_norms,
)
from skiptune.interventions.differentiable import scaled_skips

LEVELS = (80.0, 10.0, 2.0, 0.5)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 8, 8, generator=GENERATOR)


class Net(nn.Module):
    """Eight decoder and eight skip channels, which a block and a path around it both receive."""

    def __init__(self):
        super().__init__()
        self.start, self.below = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.block, self.around = nn.Conv2d(16, 3, 1), nn.Conv2d(16, 3, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=GENERATOR)

    def forward(self, x, sigma):
        d = self.start(x)
        h = torch.cat([self.below(d), d], dim=1)
        return self.block(h) + self.around(h)

    def sites(self, u=8, d=8):
        return [SkipSite(0, "block", self.block, u, d)]


@pytest.fixture
def net():
    return Net().eval().requires_grad_(False)


def test_schedules_follow_the_calls_of_the_network_itself(net):
    inside, outside = torch.tensor(1.0), torch.tensor(10.0)
    untouched = net(X, inside)
    with SkipTuning((0.5,)).attached_to(net, net.sites()):
        tuned = net(X, inside)
    assert not torch.equal(tuned, untouched)
    window = SkipTuning((0.5,), schedules=(Window(0.1, 2),))
    with window.attached_to(net, net.sites()):
        assert torch.equal(net(X, sigma=inside), tuned) and torch.equal(net(X, outside), untouched)
        mixed = net(X, torch.tensor([1.0, 10.0]))
        assert torch.equal(mixed[0], tuned[0]) and torch.equal(mixed[1], untouched[1])
    with window.attached_to(net, net.sites(), sigma_of=lambda time: time / 10):
        assert torch.equal(net(X, outside), tuned)
    with SkipTuning((0.5,), schedules=(TimeSchedule("increasing", LEVELS),)).attached_to(net, net.sites()):
        assert torch.equal(net(X, torch.tensor(0.5)), tuned)
        assert torch.equal(net(X, torch.tensor(80.0)), untouched)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())


def test_a_schedule_for_a_network_without_a_time_is_refused(net):
    tuning = SkipTuning((0.5,), schedules=(Window(0.1, 2),))
    timeless, sites = nn.Sequential(net.block), net.sites()
    for sigma_of, line in (
        (None, "Sequential is not called with sigma"),
        (lambda time: time, "needs a time, Sequential is called without"),
    ):
        with pytest.raises(SkiptuneError, match=line), tuning.attached_to(timeless, sites, sigma_of):
            pass


def test_the_error_without_sites_names_the_argument(net):
    for attached in (SkipTuning((0.5,)).attached_to(net), FreeU().attached_to(net), record_skip_norms(net)):
        with pytest.raises(SkiptuneError, match=r"Net is no U-Net .*, or pass sites=\[SkipSite"), attached:
            pass


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(("u", "d"), [(4, 4), (10, 8)])
def test_a_site_of_another_width_is_refused(net, u, d, grad):
    line = f"site block is called with 16 channels, but was given as {u} of the decoder and {d} of the skip"
    sites = net.sites(u, d)
    for attached in (
        SkipTuning((0.5,)).attached_to(net, sites),
        FreeU(b1=1.2).attached_to(net, sites),
        record_skip_norms(net, sites),
        scaled_skips(net, sites, torch.tensor([0.5])),
    ):
        with pytest.raises(SkiptuneError, match=line), torch.set_grad_enabled(grad), attached:
            net(X, torch.tensor(1.0))


@pytest.mark.parametrize("intervention", [SkipTuning((0.5,)), FreeU(b1=1.3, s1=0.5)])
def test_what_the_network_uses_again_is_not_written_into(net, intervention):
    sigma = torch.tensor(1.0)
    with intervention.attached_to(net, net.sites()):
        with torch.no_grad():
            without = net(X, sigma)
        with torch.enable_grad():
            assert torch.equal(net(X, sigma), without)
    d = net.start(X)
    h = torch.cat([net.below(d), d], dim=1)
    with intervention.attached_to(net.block, net.sites()):
        torch.testing.assert_close(without, net.block(h.clone()) + net.around(h))


def test_sites_of_a_known_family_are_changed_in_place():
    denoiser = VPPrecond(8, 3, model_channels=8, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[])
    site = find_skip_sites(denoiser.eval())[0]
    seen = []
    watch = [site.block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))]
    with torch.no_grad(), SkipTuning.interpolated(0.5).attached_to(denoiser):
        watch.append(site.block.register_forward_pre_hook(lambda _, args: seen.append(args[0])))
        denoiser(X, torch.tensor(1.0))
    assert seen[0] is seen[1] and len(seen) == 2
    assert all(each.exclusive for each in find_skip_sites(denoiser))
    for handle in watch:
        handle.remove()
