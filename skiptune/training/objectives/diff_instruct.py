"""Diff-Instruct (Luo et al. 2023): a one-step generator from a diffusion model, without data."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.training.objectives.objective import Data, Objective, gaussian
from skiptune.training.objectives.teacher import begin_as


class DiffInstruct(Objective):
    """Minimises the integral KL divergence between the noisy samples of a generator and of the teacher.

    The generator is the teacher's network at one noise level, ``x = D(init_sigma n, init_sigma, label)``. A
    second network, the score network, learns to denoise its samples; with both denoisers at hand the gradient
    of the divergence with respect to a sample is ``w(sigma) (D_score - D_teacher)(x + sigma n')`` (Luo et
    al., Theorem 3.1: the scores' difference is ``(D_score - D_teacher) / sigma^2``). Both networks start
    with the teacher's weights and are trained in the same step, on the same noise.

    Args:
        generator: trained and exported.
        teacher: frozen.
        init_sigma: the level the generator is used at (5.0 on ImageNet-64).
        p_mean, p_std: ``ln sigma ~ N(p_mean, p_std^2)``.
        sigma_data: standard deviation of the images. The score network's weight is EDM's, ``1 / c_out^2``;
            that of the divergence is ``w = 1 / c_out``, so that all levels pull with the same force.
    """

    betas = (0.0, 0.999)
    needs_data = False
    exported = "generator."

    def __init__(
        self,
        generator: Denoiser,
        teacher: Denoiser,
        init_sigma: float = 5.0,
        p_mean: float = -1.2,
        p_std: float = 1.2,
        sigma_data: float = 0.5,
    ):
        if not generator.sigma_min <= init_sigma <= generator.sigma_max or init_sigma <= 0:
            raise SkiptuneError(
                f"init_sigma {init_sigma} is outside the generator's noise levels; change one"
            )
        super().__init__(generator)
        begin_as(generator, teacher)
        self.teacher = teacher
        self.score = copy.deepcopy(teacher).train().requires_grad_(True)
        self.pair = nn.ModuleDict({"generator": generator, "score": self.score})
        self.init_sigma, self.p_mean, self.p_std = init_sigma, p_mean, p_std
        self.sigma_data = sigma_data

    @property
    def trained(self) -> nn.Module:
        return self.pair

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        """The score network's loss and half the mean square of the divergence's gradient.

        The second is a surrogate: its gradient with respect to the generated images is the divergence's.
        """
        device = next(self.denoiser.parameters()).device
        shape = (count, *self.denoiser.image_shape)
        condition = None
        if classes := self.denoiser.num_classes:
            labels = torch.randint(classes, (count,), generator=generator)
            condition = F.one_hot(labels, classes).float().to(device)
        start = torch.full((count,), self.init_sigma, device=device)
        images = self.denoiser(self.init_sigma * gaussian(shape, generator, device), start, condition)

        fixed = images.detach()
        sigma = (torch.randn(count, 1, 1, 1, generator=generator) * self.p_std + self.p_mean).exp().to(device)
        noisy = fixed + sigma * gaussian(shape, generator, device)
        scored = self.score(noisy, sigma.flatten(), condition)
        with torch.no_grad():
            taught = self.teacher(noisy, sigma.flatten(), condition)
        c_out = sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()
        towards = fixed - (scored.detach() - taught) / c_out
        return ((scored - fixed) / c_out).square().mean() + 0.5 * (images - towards).square().mean()
