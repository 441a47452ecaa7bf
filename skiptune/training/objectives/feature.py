"""Fine-tuning of a trained network on denoising losses in pixels and in features (Skip-Tuning, Table 12)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.denoising_losses import edm_weight, feature_space, pixel_space, space_loss
from skiptune.evaluation.extractors import FeatureExtractor
from skiptune.training.objectives.objective import Data, Objective, gaussian
from skiptune.training.objectives.teacher import begin_as


class FeatureDenoising(Objective):
    """``E w(sigma) [pixel L_pixel + feature L_feature]``, the losses of Skip-Tuning, section 5.1.

    ``L_S = |S(D(x + sigma n, sigma)) - S(x)|^2``, the mean over the elements of ``S``, with EDM's weight and
    log-normal noise levels ``ln sigma ~ N(p_mean, p_std^2)`` (ambiguity ST-A6 of the reference data).

    Args:
        denoiser: trained, starts with the teacher's weights.
        teacher: the trained network.
        features: the frozen feature network, which needs a gradient with respect to its images only.
        pixel, feature: factors of the two losses; the paper names no other than 1 and 1.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        teacher: Denoiser,
        features: FeatureExtractor,
        pixel: float = 1.0,
        feature: float = 1.0,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        sigma_data: float = 0.5,
    ):
        if pixel < 0 or feature <= 0:
            raise SkiptuneError(f"a feature loss needs pixel >= 0 and feature > 0, got {pixel} and {feature}")
        super().__init__(denoiser)
        begin_as(denoiser, teacher)
        self.features = features.network  # a part of the objective, so that it moves with it
        self.space = feature_space(features)
        self.pixel, self.feature = pixel, feature
        self.p_mean, self.p_std, self.sigma_data = p_mean, p_std, sigma_data

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        clean, condition = data()
        normal = torch.randn(count, 1, 1, 1, generator=generator).to(clean.device)
        sigma = (normal * self.p_std + self.p_mean).exp()
        noisy = clean + sigma * gaussian(clean.shape, generator, clean.device)
        estimate = self.denoiser(noisy, sigma.flatten(), condition)
        # At low noise both arguments nearly agree: their features keep full precision.
        with torch.autocast(clean.device.type, enabled=False):
            loss = self.feature * space_loss(self.space, estimate, clean)
            if self.pixel:
                loss = loss + self.pixel * space_loss(pixel_space, estimate, clean)
        return (edm_weight(sigma.flatten(), self.sigma_data) * loss).mean().float()
