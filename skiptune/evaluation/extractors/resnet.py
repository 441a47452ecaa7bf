"""ResNet-101 of torchvision (He et al., arXiv 1512.03385; weights IMAGENET1K_V1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from skiptune.evaluation.extractors.pretrained import (
    OfficialWeights,
    PretrainedNetwork,
    library,
    load_into,
)


class ResNet101(PretrainedNetwork):
    """2048 pooled features and 1000 logits, behind torchvision's documented transform of these weights.

    That is: shorter side to 256 (bilinear, antialiased, uint8), centre crop 224, ImageNet's mean and
    deviation.
    """

    weights = OfficialWeights("resnet101-63fe2227.pth", "resnet101", "63fe2227")

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__(state)
        models = library("torchvision.models", "torchvision")
        network: nn.Module = models.resnet101(weights=None)
        load_into(network, state, self.hint)
        nodes = {"flatten": "features", "fc": "logits"}
        surgery = library("torchvision.models.feature_extraction", "torchvision")
        self.network: nn.Module = surgery.create_feature_extractor(network.eval(), nodes)
        self._transform: Any = models.ResNet101_Weights.IMAGENET1K_V1.transforms()

    def preprocess(self, images: Tensor) -> Tensor:
        return self._transform(images)

    def preprocess_smoothly(self, pixels: Tensor) -> Tensor:
        return self._transform(pixels / 255)

    def body(self, x: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self.network(x)
        return outputs
