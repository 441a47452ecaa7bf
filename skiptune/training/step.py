"""One step of training: gradients of the loss, averaged and clipped, Adam, the averaged weights."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.runtime.precision import HALF_PRECISIONS
from skiptune.training.loss_scale import LossScale
from skiptune.training.objectives import make_objective
from skiptune.training.objectives.objective import Data
from skiptune.training.parallel import average_over_workers
from skiptune.training.settings import DenoiserTraining


class TrainingStep:
    """What a step changes, built anew from settings with the random numbers of torch's global generator.

    Attributes:
        parameters: those trained, by name.
        average: their moving averages, likewise.
        scaling: of the loss, in float16.
    """

    def __init__(self, settings: DenoiserTraining, device: torch.device):
        objective = make_objective(settings.loss, build_denoiser(settings.denoiser))
        self.objective = objective.to(device).to(memory_format=torch.channels_last)
        if settings.compile:
            # Small networks are bound by the launching of kernels, which a CUDA graph does at once.
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            for network in self.objective.networks():
                part = network.get_submodule("unet" if hasattr(network, "unet") else "model")
                part.compile(dynamic=False, mode=mode)
        self.settings, self.device = settings, device
        self.parameters = dict(self.objective.trained.named_parameters())
        self.optimizer = torch.optim.Adam(
            self.parameters.values(),
            lr=settings.learning_rate,
            betas=self.objective.betas,
            eps=1e-8,
            fused=True,
        )
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.scaling = LossScale() if settings.precision == "fp16" else None

    def __call__(self, seen: int, data: Data, generator: Generator) -> Tensor:
        """The step that begins after ``seen`` images; returns all gradients, then the loss ``[P + 1]``.

        Args:
            data: clean images and labels of this worker's share of the batch.
            generator: of the CPU, for times and noise.

        Raises:
            SkiptuneError: a parameter that the loss does not depend on, a lost worker.
        """
        settings, scaling = self.settings, self.scaling
        half = HALF_PRECISIONS.get(settings.precision)
        with torch.autocast(self.device.type, half, enabled=half is not None):
            loss = self.objective.loss(settings.batch // settings.workers, data, generator)
        self.optimizer.zero_grad(set_to_none=True)
        (loss if scaling is None else loss * scaling.scale).backward()
        # One exchange a step: all gradients and the loss in one vector.
        parts = [p.grad for p in self.parameters.values() if p.grad is not None]
        if len(parts) < len(self.parameters):
            unused = next(name for name, p in self.parameters.items() if p.grad is None)
            raise SkiptuneError(f"the loss does not depend on {unused}; describe the network without it")
        gradients = torch.cat([part.flatten() for part in parts] + [loss.detach().reshape(1)])
        average_over_workers(gradients, settings.workers)
        usable = scaling is None or scaling.unscale(gradients[:-1])
        if settings.max_gradient_norm is not None:
            gradients[:-1] *= (settings.max_gradient_norm / (gradients[:-1].norm() + 1e-6)).clamp(max=1)
        pieces = gradients[:-1].split([part.numel() for part in parts])
        shaped = [piece.view(part.shape) for part, piece in zip(parts, pieces, strict=True)]
        torch._foreach_copy_(parts, shaped)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(seen)
        if usable:
            self.optimizer.step()
        self.objective.after_step()
        decay = settings.ema_decay_at(seen + settings.batch)
        with torch.no_grad():  # else the averages would keep the graph of every step
            torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)
        return gradients

    def sound(self, gradients: Tensor) -> bool:
        """Whether the training can go on from here: weights are finite, and what the step returned.

        With loss scaling a gradient may overflow now and then, the scale not fall for ever.
        """
        fine = not self.scaling.exhausted if self.scaling else bool(gradients.isfinite().all())
        return fine and all(bool(p.isfinite().all()) for p in self.parameters.values())
