from __future__ import annotations

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.evaluation.classifiers import ARCHITECTURES, DeskViT


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("channels", "resolution", "classes"), [(3, 16, 26), (1, 8, 10)])
def test_shapes_size_and_gradients(architecture: str, channels: int, resolution: int, classes: int) -> None:
    network = ARCHITECTURES[architecture](channels, resolution, classes)
    images = torch.randn(5, channels, resolution, resolution, requires_grad=True)
    outputs = network(images)
    assert outputs["features"].shape == (5, 64) and outputs["logits"].shape == (5, classes)
    outputs["features"].square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert 2 * sum(p.numel() for p in network.parameters()) < 1_000_000  # bytes in float16


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_image_does_not_depend_on_its_neighbours(architecture: str) -> None:
    torch.manual_seed(0)
    network = ARCHITECTURES[architecture](1, 8, 10)  # in training mode, where batch statistics would show
    images = torch.randn(8, 1, 8, 8)
    others = torch.cat([images[:4], 10 * torch.randn(4, 1, 8, 8)])
    torch.testing.assert_close(network(images)["features"][:4], network(others)["features"][:4])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_resolution_must_fit(architecture: str) -> None:
    with pytest.raises(SkiptuneError, match="resolution 10"):
        ARCHITECTURES[architecture](3, 10, 26)


def test_vit_sees_where_a_patch_is() -> None:
    torch.manual_seed(0)
    network = DeskViT(1, 8, 10)
    image = torch.zeros(1, 1, 8, 8)
    image[..., :2, :2] = 5
    torch.nn.init.normal_(network.positions)
    assert not torch.allclose(network(image)["features"], network(image.flip(-1))["features"], atol=1e-4)
