from __future__ import annotations

import pytest
import torch

from skiptune.data.images import from_uint8, to_uint8
from skiptune.errors import SkiptuneError


def test_every_value_survives_the_round_trip() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    floats = from_uint8(values)
    assert floats.dtype == torch.float32 and floats[0] == -1 and floats[255] == 1
    torch.testing.assert_close(floats, torch.linspace(-1, 1, 256))
    assert torch.equal(to_uint8(floats), values)
    assert torch.equal(to_uint8(floats.double()), values)


def test_rounding_is_edms() -> None:
    # x * 127.5 + 128, truncated: a value is reached from half a step below it.
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([-1.0, -0.0001, 0.0, 0.0038, 0.004, 0.9921, 0.9962, 1.0], dtype=dtype)
        assert to_uint8(x).tolist() == [0, 127, 128, 128, 128, 254, 255, 255]
    centres = torch.arange(256, dtype=torch.float64)
    for shift, value in ((-0.499, centres), (0.499, centres), (0.501, (centres + 1).clip(max=255))):
        assert torch.equal(to_uint8((centres + shift) / 127.5 - 1).double(), value)


def test_values_outside_are_clipped() -> None:
    x = torch.tensor([-1e9, -1.01, 1.01, 3.0, float("inf"), -float("inf")])
    assert to_uint8(x).tolist() == [0, 0, 255, 255, 255, 0]
    assert to_uint8(torch.zeros(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def test_rounding_down() -> None:
    # openai/consistency_models, scripts/image_sample.py: ((sample + 1) * 127.5).clamp(0, 255).to(uint8)
    x = torch.tensor([-2.0, -1.0, -0.0001, 0.0, 0.0038, 0.004, 0.9921, 0.9962, 1.0, 2.0])
    assert to_uint8(x, "down").tolist() == [0, 0, 127, 127, 127, 128, 253, 254, 255, 255]
    with pytest.raises(SkiptuneError, match="unknown rounding 'up' of pixels; choose one of nearest, down"):
        to_uint8(x, "up")
