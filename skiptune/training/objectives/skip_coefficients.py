"""Learning of skip coefficients on a feature loss, the network frozen (Skip-Tuning, Table 11)."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import FeatureExtractor
from skiptune.interventions import find_skip_sites
from skiptune.interventions.differentiable import scaled_skips
from skiptune.training.objectives.feature import FeatureDenoising
from skiptune.training.objectives.objective import Data


class Coefficients(nn.Module):
    """One parameter ``value`` ``[count]``, every coefficient being ``start`` in the beginning."""

    def __init__(self, count: int, start: float, bounded: bool):
        if not 0 < start < (1 if bounded else math.inf):
            range_ = "(0, 1)" if bounded else "(0, inf)"
            raise SkiptuneError(f"start of the skip coefficients is {start}, it must lie in {range_}")
        super().__init__()
        self.bounded = bounded
        self.value = nn.Parameter(torch.full((count,), math.log(start / (1 - start)) if bounded else start))

    @property
    def rho(self) -> Tensor:
        return coefficients(self.value, self.bounded)


def coefficients(value: Tensor, bounded: bool) -> Tensor:
    """``rho`` ``[k]`` of what is learned: the values themselves, or their sigmoid, which lies in (0, 1)."""
    return value.sigmoid() if bounded else value


class SkipCoefficientLearning(FeatureDenoising):
    """The feature loss as a function of one coefficient per skip site; the network stays as it is.

    Args:
        denoiser: takes the teacher's weights, which stay frozen; it is in evaluation mode.
        bounded: learn through a sigmoid, which keeps the coefficients in (0, 1).
        start: of every coefficient; 1 is the untouched network.
        teacher, features, p_mean, p_std, sigma_data: as for ``FeatureDenoising``.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        teacher: Denoiser,
        features: FeatureExtractor,
        bounded: bool,
        start: float,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        sigma_data: float = 0.5,
    ):
        super().__init__(denoiser, teacher, features, 0.0, 1.0, p_mean, p_std, sigma_data)
        denoiser.eval().requires_grad_(False)
        self.sites = find_skip_sites(denoiser)
        self.coefficients = Coefficients(len(self.sites), start, bounded)

    @property
    def trained(self) -> nn.Module:
        return self.coefficients

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        with scaled_skips(self.denoiser, self.sites, self.coefficients.rho):
            return super().loss(count, data, generator)
