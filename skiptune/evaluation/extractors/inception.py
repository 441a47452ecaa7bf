"""Inception-V3 of 2015-12-05, the features of FID, in torch-fidelity's port.

The weights, the layers and the resize (TensorFlow 1's bilinear) are torch-fidelity's; the class logits leave
out the last bias, as its Inception score does. clean-fid's protocol is the same network behind its own resize
(Parmar et al., arXiv 2104.11222): Pillow's antialiased bicubic on floats, without rounding to uint8.

NVIDIA's files are refused: its pickle carries the network as code and its .pt is TorchScript, and nothing in
a file is executed here. torch-fidelity's port holds the same weights of 2015.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from skiptune.evaluation.extractors.pretrained import OfficialWeights, PretrainedNetwork, library, unfit

SIZE = 299
NVIDIA_REFUSED = (
    "NVIDIA's Inception files carry code (a pickled network, TorchScript) and are refused: use the same "
    "weights in torch-fidelity's port, features=inception_v3"
)
STAGES = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    *("MaxPool_2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d"),
    *("Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)


class InceptionV3(PretrainedNetwork):
    """torch-fidelity's `inception-v3-compat`: features "2048", logits "logits_unbiased" [N, 1008]."""

    weights = OfficialWeights(
        "weights-inception-2015-12-05-6726825d.pth",
        "inception_v3",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    )
    hint = NVIDIA_REFUSED
    classes: Tensor

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        fidelity = library("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity")
        resizing = library("torch_fidelity.interpolate_compat_tensorflow", "torch-fidelity")
        self._tensorflow_resize: Any = resizing.interpolate_bilinear_2d_like_tensorflow1x
        # Its constructor unpickles a file: it gets one written here, of tensors that were read safely.
        file = io.BytesIO()
        torch.save(dict(state), file)
        file.seek(0)
        try:
            inception = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], file)
        except RuntimeError as error:
            raise unfit("torch-fidelity's Inception-V3", error, self.hint) from error
        self.stages = nn.Sequential(*(getattr(inception, stage) for stage in STAGES))
        self.stages.to(memory_format=torch.channels_last)  # a third faster on CPUs
        self.register_buffer("classes", inception.fc.weight.T.contiguous())

    def preprocess(self, images: Tensor) -> Tensor:
        return self.preprocess_smoothly(images.float())

    def preprocess_smoothly(self, pixels: Tensor) -> Tensor:
        return (self._tensorflow_resize(pixels, size=(SIZE, SIZE), align_corners=False) - 128) / 128

    def body(self, x: Tensor) -> dict[str, Tensor]:
        features = self.stages(x.contiguous(memory_format=torch.channels_last)).flatten(1)
        return {"features": features, "logits": features @ self.classes}


class CleanInceptionV3(InceptionV3):
    """The same network behind clean-fid's resize (its mode "clean")."""

    def preprocess(self, images: Tensor) -> Tensor:
        return (clean_resize(images).to(images.device) - 128) / 128

    def preprocess_smoothly(self, pixels: Tensor) -> Tensor:
        x = F.interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True)
        return (x.clamp(0, 255) - 128) / 128


def clean_resize(images: Tensor, size: int = SIZE) -> Tensor:
    """uint8 [N, C, H, W] to float32 [N, C, size, size] in [0, 255] on the CPU, clean-fid's bit for bit."""
    channels = images.cpu().flatten(0, 1).numpy().astype(np.float32)
    resized = [
        np.asarray(Image.fromarray(channel).resize((size, size), Image.Resampling.BICUBIC))
        for channel in channels
    ]
    return torch.from_numpy(np.stack(resized).clip(0, 255)).unflatten(0, images.shape[:2])
