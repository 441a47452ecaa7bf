import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.samplers import Consistency, Levels, make_sampler


def run(sampler, denoise, noise, noise_at=None):
    state = sampler.start(noise)
    for _ in range(sampler.num_steps):
        state = sampler.step(denoise, state, noise_at)
    return sampler.finish(state)


def test_one_step_is_the_estimate_at_the_highest_level():
    seen = []

    def denoise(x, sigma):
        seen.append((x.clone(), float(sigma)))
        return x / 100

    noise = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    x = run(make_sampler("consistency", steps=1), denoise, noise)
    assert [sigma for _, sigma in seen] == [80.0]
    torch.testing.assert_close(seen[0][0], 80 * noise.double())
    torch.testing.assert_close(x, (0.8 * noise.double()).clamp(-1, 1))


def test_between_two_steps_noise_of_the_next_level_is_added():
    sampler = Consistency(Levels((10.0, 2.0, 0.5)), clip=False)
    noise = {0: torch.full((1, 1, 2, 2), 3.0)}
    start = sampler.start(torch.zeros(1, 1, 2, 2))
    state = sampler.step(lambda x, sigma: torch.full_like(x, 0.25), start, noise.get)
    expected = 0.25 + 3 * (2.0**2 - 0.5**2) ** 0.5
    torch.testing.assert_close(state.x, torch.full((1, 1, 2, 2), expected, dtype=torch.float64))
    with pytest.raises(SkiptuneError, match="noise_at"):
        sampler.step(lambda x, sigma: x, start)


def test_clip_acts_on_estimates_and_the_sample_is_always_clipped():
    high = lambda x, sigma: torch.full_like(x, 5.0)  # noqa: E731
    for clip, between in ((True, 1.0), (False, 5.0)):
        sampler = Consistency(Levels((10.0, 0.5)), clip)
        state = sampler.step(high, sampler.start(torch.zeros(1, 1, 1, 1)))
        assert float(state.x) == between and float(sampler.finish(state)) == 1.0


def test_it_is_no_path_that_could_be_inverted():
    with pytest.raises(SkiptuneError, match="cannot be inverted"):
        make_sampler("consistency", steps=2).reversed()
