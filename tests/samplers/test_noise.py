import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.samplers import initial_noise, step_noise


def test_initial_noise_belongs_to_the_image_whatever_the_batch():
    noise, labels = initial_noise(range(6), (3, 4, 4), num_classes=10)
    other, other_labels = initial_noise([5, 2], (3, 4, 4), num_classes=10)
    assert noise.dtype == torch.float32 and labels.dtype == torch.int64
    assert torch.equal(other, noise[[5, 2]]) and torch.equal(other_labels, labels[[5, 2]])
    assert len({tensor.sum().item() for tensor in noise}) == 6


def test_latents_are_drawn_first_then_the_label():
    generator = torch.Generator().manual_seed(7)
    expected = torch.randn(3, 4, 4, generator=generator)
    label = torch.randint(1000, (), generator=generator)
    noise, labels = initial_noise([7], (3, 4, 4), num_classes=1000)
    assert torch.equal(noise[0], expected) and labels[0] == label
    alone, none = initial_noise([7], (3, 4, 4))
    assert torch.equal(alone, noise) and none is None


def test_step_noise_is_a_function_of_seed_and_step():
    noise = step_noise(range(4), 3, (3, 8, 8))
    assert noise.dtype == torch.float64
    assert torch.equal(step_noise([2, 0], 3, (3, 8, 8)), noise[[2, 0]])
    assert not torch.equal(step_noise(range(4), 4, (3, 8, 8)), noise)
    assert not torch.equal(step_noise([34], 0, (3, 8, 8)), step_noise([3], 40, (3, 8, 8)))


def test_step_noise_is_standard_normal_and_unlike_the_initial_noise():
    seeds = range(200)
    noise = step_noise(seeds, 0, (3, 8, 8))
    start, _ = initial_noise(seeds, (3, 8, 8))
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert abs((noise * start).mean()) < 0.02
    assert abs((noise * step_noise(seeds, 1, (3, 8, 8))).mean()) < 0.02


@pytest.mark.parametrize(("seeds", "shape"), [([], (3, 4, 4)), ([1], (4, 4))])
def test_wrong_arguments_are_named(seeds, shape):
    for draw in (lambda: initial_noise(seeds, shape), lambda: step_noise(seeds, 0, shape)):
        with pytest.raises(SkiptuneError, match="seeds|shape"):
            draw()
