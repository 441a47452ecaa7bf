"""Latent-consistency-like distillation of a guided text-to-image model (Luo et al. 2023, Algorithm 1).

The student keeps predicting noise, so that ``D(x, 0) = x``, the boundary condition of consistency models,
holds by construction, and DDIM samples it in few steps.
"""

from __future__ import annotations

import copy

import torch
from torch import Generator, Tensor, nn

from skiptune.denoisers import Denoiser
from skiptune.denoisers import diffusers_network as guided
from skiptune.errors import SkiptuneError
from skiptune.training.objectives.objective import Data, gaussian
from skiptune.training.objectives.prompted import Prompted
from skiptune.training.objectives.teacher import begin_as


class PromptedConsistency(Prompted):
    """A student whose outputs agree along the guided teacher's trajectories.

    For an image noised to time ``t`` the guided teacher goes one DDIM step to ``t - interval`` (to the clean
    image if that is before the first time); what the averaged student gives there, without gradient, is what
    the student at ``t`` should give. Pseudo-Huber distance, as of ``ConsistencyDistillation``. The prompt
    encoder stays the teacher's.

    Args:
        student: trained, starts with the teacher's weights.
        teacher: frozen.
        guidance: of the teacher; the student has it built in.
        interval: times that a step of the teacher spans.
        last: share of the images that are noised to the last time, at which sampling starts; the others take
            any time.
        target_decay: of the averaged student.
    """

    def __init__(
        self,
        student: Denoiser,
        teacher: Denoiser,
        guidance: float,
        interval: int = 50,
        last: float = 0.25,
        target_decay: float = 0.95,
        huber: float = 0.03,
    ):
        super().__init__(student)
        if not (1 <= interval < self.model.num_timesteps and 0 <= last < 1 and 0 <= target_decay < 1):
            raise SkiptuneError(
                f"prompted consistency needs an interval of 1 to {self.model.num_timesteps - 1} times, and "
                f"last and target_decay in [0, 1); it was given {interval}, {last} and {target_decay}"
            )
        begin_as(student, teacher)
        self.teacher = teacher
        self.target = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.model.encoder.requires_grad_(False).eval()
        # Its parameters are called as they are in the denoiser.
        self.network = nn.ModuleDict({"model": self.model.model})
        self.guidance, self.interval, self.last = guidance, interval, last
        self.target_decay, self.huber = target_decay, huber

    @property
    def trained(self) -> nn.Module:
        return self.network

    @property
    def kept(self) -> dict[str, Tensor]:
        return dict(self.target.model.named_parameters())

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        clean, ids = data()
        assert ids is not None
        sigma, lower = (level.to(clean.device, torch.float32) for level in self.levels(count, generator))
        noisy = clean + sigma.view(-1, 1, 1, 1) * gaussian(clean.shape, generator, clean.device)
        with torch.no_grad():
            context = {"context": self.model.context(ids)}
            nothing = {"context": self.model.context(self.nothing)}
            teacher = guided.Prompted(self.teacher, context, nothing, self.guidance)
            keep = (lower / sigma).view(-1, 1, 1, 1)
            after = torch.lerp(teacher(noisy, sigma), noisy, keep)
            # At level 0 the boundary condition gives the image itself, whatever the network says.
            target = torch.where(
                keep > 0, self.target(after, lower.clamp(min=self.model.sigma_min), **context), after
            )
        error = (self.model(noisy, sigma, **context) - target).square().mean((1, 2, 3))
        return ((error + self.huber**2).sqrt() - self.huber).mean()

    def levels(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Noise levels ``[N]`` of the images and of where the teacher's step ends, float64 on the CPU."""
        final = self.model.num_timesteps - 1
        times = torch.randint(self.model.num_timesteps, (count,), generator=generator)
        times = torch.where(torch.rand(count, generator=generator) < self.last, final, times)
        sigmas, earlier = self.model.sigmas, times - self.interval
        return sigmas[times], torch.where(earlier >= 0, sigmas[earlier.clamp(min=0)], 0.0)

    def after_step(self) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.target.model.parameters()),
                list(self.model.model.parameters()),
                1 - self.target_decay,
            )
