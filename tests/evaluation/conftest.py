"""Networks of kept libraries with random weights, saved as official files are: made once a session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def he_initialised(network: nn.Module) -> dict[str, Tensor]:
    """Default weights let deep features collapse to one point; these keep the variance."""
    generator = torch.Generator().manual_seed(0)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        if name == "fc":  # the official one has a bias, which logits without it must not show
            nn.init.normal_(module.bias, generator=generator)
    return network.state_dict()


class _Unloaded(FeatureExtractorInceptionV3):
    def load_state_dict(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Keeps the random weights."""


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the format of torch-fidelity's Inception-V3 (566 tensors, 91 MB)."""
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    network = _Unloaded("inception-v3-compat", ["2048"], str(folder / "empty.pth"))
    path = folder / "random.pth"
    torch.save(he_initialised(network), path)
    return path


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a two-layer open_clip model for images of 32 pixels."""
    import open_clip

    tower = {"width": 64, "layers": 2}
    config = {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {**tower, "image_size": 32, "patch_size": 8, "head_width": 32},
        "text_cfg": {**tower, "context_length": 77, "vocab_size": 49408, "heads": 2},
    }
    path = tmp_path_factory.mktemp("clip") / "tiny-test-clip.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return path.stem
