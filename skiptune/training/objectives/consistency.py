"""Consistency distillation (Song et al. 2023, "Consistency Models", Algorithm 2)."""

from __future__ import annotations

import copy

import torch
from torch import Generator, Tensor

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.samplers.grids import karras_grid
from skiptune.training.objectives.objective import Data, Objective, gaussian
from skiptune.training.objectives.teacher import begin_as

DISTANCES = ("l2", "pseudo_huber")


class ConsistencyDistillation(Objective):
    """A student whose outputs agree along each trajectory of the teacher's ODE, so that it samples in a jump.

    For a noisy image at level ``sigma_n`` of EDM's grid the teacher goes one Heun step to the next level; the
    student there, averaged over training and without gradient, is what the student at ``sigma_n`` should
    give. Its boundary condition at ``sigma_min`` (``ConsistencyPrecond``) holds the chain to the data.

    Args:
        student: trained, starts with the teacher's weights.
        teacher: frozen.
        levels: number N of noise levels from ``sigma_max`` to ``sigma_min``, ``rho`` as in EDM; each image of
            a batch takes one of the N - 1 steps.
        target_decay: of the averaged student, 0 for the student itself (Song & Dhariwal 2023).
        distance: ``l2``, mean square, or ``pseudo_huber``, ``sqrt(mean square + c^2) - c`` of an image with
            ``c = huber`` (Song & Dhariwal 2023, eq. 6, in units of the image's root mean square). LPIPS, the
            best in the paper, has no network for images of the desk's size.
    """

    def __init__(
        self,
        student: Denoiser,
        teacher: Denoiser,
        levels: int = 18,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        target_decay: float = 0.95,
        distance: str = "pseudo_huber",
        huber: float = 0.00054,
    ):
        if levels < 2 or not 0 <= target_decay < 1 or distance not in DISTANCES:
            raise SkiptuneError(
                f"consistency distillation needs levels >= 2, 0 <= target_decay < 1 and a distance of "
                f"{', '.join(DISTANCES)}; it was given {levels}, {target_decay} and {distance!r}"
            )
        super().__init__(student)
        begin_as(student, teacher)
        self.teacher = teacher
        self.target = copy.deepcopy(student).eval().requires_grad_(False)
        self.sigmas = karras_grid(levels, sigma_min, sigma_max, rho).float()
        self.target_decay, self.distance, self.huber = target_decay, distance, huber

    @property
    def kept(self) -> dict[str, Tensor]:
        return dict(self.target.named_parameters())

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        clean, condition = data()
        step = torch.randint(len(self.sigmas) - 1, (count,), generator=generator)
        sigma, lower = self.sigmas[step].to(clean.device), self.sigmas[step + 1].to(clean.device)
        noisy = clean + sigma.view(-1, 1, 1, 1) * gaussian(clean.shape, generator, clean.device)
        with torch.no_grad():
            target = self.target(heun_step(self.teacher, noisy, sigma, lower, condition), lower, condition)
        error = (self.denoiser(noisy, sigma, condition) - target).square().mean((1, 2, 3))
        if self.distance == "pseudo_huber":
            error = (error + self.huber**2).sqrt() - self.huber
        return error.mean()

    def after_step(self) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.target.parameters()), list(self.denoiser.parameters()), 1 - self.target_decay
            )


def heun_step(teacher: Denoiser, x: Tensor, sigma: Tensor, lower: Tensor, condition: Tensor | None) -> Tensor:
    """A step of the probability-flow ODE, each image ``[N, C, H, W]`` between its own levels ``[N] > 0``."""
    start, end = sigma.view(-1, 1, 1, 1), lower.view(-1, 1, 1, 1)
    slope = (x - teacher(x, sigma, condition)) / start
    euler = x + (end - start) * slope
    return x + (end - start) * (slope + (euler - teacher(euler, lower, condition)) / end) / 2
