"""CLIP's image tower through open_clip, the features of CMMD (Jayasumana et al., arXiv 2401.09603)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors.pretrained import (
    OfficialWeights,
    PretrainedNetwork,
    library,
    load_into,
)

EXTRA = "[image-metrics]"


class ClipImageTower(PretrainedNetwork):
    """Normalised image embeddings, no logits (K = 0), of the open_clip model `architecture`.

    As CMMD: largest centred square, Pillow's bicubic (antialiased, uint8) to the model's size, CLIP's mean
    and deviation.
    """

    architecture: ClassVar[str]
    mean: Tensor
    std: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        model = build_clip(self.architecture, state, self.hint)
        self.visual: nn.Module = model.visual
        self.size = image_size(model)
        self.register_buffer("mean", channel_values(model.visual.image_mean))
        self.register_buffer("std", channel_values(model.visual.image_std))

    def preprocess(self, images: Tensor) -> Tensor:
        return self._normalise(square_resize(images, self.size).to(images.device).float())

    def preprocess_smoothly(self, pixels: Tensor) -> Tensor:
        size = (self.size, self.size)
        x = F.interpolate(centred_square(pixels), size, mode="bicubic", antialias=True)
        return self._normalise(x.clamp(0, 255))

    def body(self, x: Tensor) -> dict[str, Tensor]:
        features = F.normalize(self.visual(x), dim=-1)
        return {"features": features, "logits": features[:, :0]}

    def _normalise(self, pixels: Tensor) -> Tensor:
        return (pixels / 255 - self.mean) / self.std


class ClipViTL14(ClipImageTower):
    """ViT-L/14 at 336 pixels with OpenAI's weights, 768 features: CMMD's."""

    architecture = "ViT-L-14-336-quickgelu"
    weights = OfficialWeights("clip_vitl14_336_openai.safetensors", "clip_vitl14_336")


def build_clip(architecture: str, state: Mapping[str, Tensor], hint: str) -> Any:
    """The open_clip model with these weights, nothing fetched.

    Raises:
        SkiptuneError: open_clip is missing or does not know the architecture, or the weights do not fit.
    """
    open_clip = library("open_clip", "open-clip-torch", EXTRA)
    if architecture not in open_clip.list_models():  # any other name would be looked up on a hub
        raise SkiptuneError(f"open_clip has no model '{architecture}': choose one of open_clip.list_models()")
    model = open_clip.create_model(architecture, load_weights=False)
    load_into(model, state, hint)
    return model.eval()


def image_size(model: Any) -> int:
    """Height and width that the image tower takes."""
    size = model.visual.image_size
    return int(size[0] if isinstance(size, tuple | list) else size)


def channel_values(values: Any) -> Tensor:
    """One number per channel, [1, 3, 1, 1]."""
    return torch.tensor(values).view(1, -1, 1, 1)


def centred_square(images: Tensor) -> Tensor:
    """The largest centred square of [N, C, H, W]."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def square_resize(images: Tensor, size: int) -> Tensor:
    """uint8 [N, 3, H, W] to uint8 [N, 3, size, size] on the CPU by Pillow's bicubic of the centred square."""
    pixels = centred_square(images).permute(0, 2, 3, 1).cpu().numpy()
    resized = [
        np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in pixels
    ]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
