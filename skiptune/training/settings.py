"""Settings of a denoiser training and the schedules that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.runtime.precision import HALF_PRECISIONS
from skiptune.training.fields import check_types
from skiptune.training.objectives import check_objective


@dataclass(frozen=True)
class DenoiserTraining:
    """Everything that determines a training run, except the weights that its loss names (``inputs_of``).

    Attributes:
        denoiser: ``{"class": "EDMPrecond", "kwargs": {...}}``.
        dataset: name of the data set; its split ``train`` is used, image ``i`` of the run being seed ``i``.
        flip: mirror half of the images, decided by their seeds.
        images: training images in total, rounded down to whole batches; ``batch`` per step over all workers.
        learning_rate: of Adam, whose betas are the objective's; linear warm-up over ``warmup_images``, linear
            decay to 0 over the last ``decay_images``.
        ema_halflife: half-life of the averaged weights in images, at most 5% of the images seen (EDM's
            ramp-up). A constant decay ``d`` per step, such as DDPM's 0.9999, is the half-life ``batch ln(1/2)
            / ln d`` (887,184 images at batch 128): after the ramp-up the decay is that one, and of what lies
            before it nothing is left in a run many half-lives long.
        max_gradient_norm: gradients of a step with a larger norm, over all parameters, are scaled down to it;
            None for no clipping.
        loss: ``{"name": a key of LOSSES or FROM_TEACHER, its arguments}``.
        workers: data-parallel processes, each with one thread on the CPU.
        precision: ``fp32``, or ``bf16`` or ``fp16`` for autocast with fp32 weights, the latter with loss
            scaling (``LossScale``).
        compile: compile the network (about 1.4 times faster on a CPU, needs a C++ compiler).
        device: ``cpu`` or ``cuda`` (one GPU per worker).
        checkpoint_every, log_every: in steps; there is always a checkpoint and a log row after the last step.

    Until the decay begins nothing depends on ``images``: a run continues as one with more images when
    ``loss.jsonl`` and ``checkpoint.safetensors`` are copied to that run's folder.

    Raises:
        SkiptuneError: a value of another type, or values that do not fit together.
    """

    name: str
    denoiser: dict[str, Any]
    dataset: str
    images: int
    batch: int = 128
    learning_rate: float = 1e-3
    warmup_images: int = 20_000
    decay_images: int = 500_000
    ema_halflife: int = 50_000
    flip: bool = False
    max_gradient_norm: float | None = None
    loss: dict[str, Any] = field(default_factory=lambda: {"name": "edm"})
    seed: int = 0
    workers: int = 2
    precision: str = "fp32"
    compile: bool = False
    device: str = "cpu"
    checkpoint_every: int = 200
    log_every: int = 20

    def __post_init__(self) -> None:
        check_types(vars(self), DenoiserTraining)
        for name in ("images", "batch", "workers", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise SkiptuneError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.batch % self.workers:
            raise SkiptuneError(
                f"batch {self.batch} does not divide among {self.workers} workers; change one of them"
            )
        if self.images < self.batch:
            raise SkiptuneError(f"{self.images} images are no batch of {self.batch}; train on more images")
        if self.precision not in ("fp32", *HALF_PRECISIONS):
            raise SkiptuneError(f"precision {self.precision!r} is unknown; choose fp32, bf16 or fp16")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0:
            raise SkiptuneError(f"max_gradient_norm is {self.max_gradient_norm}; use a positive one, or null")
        if self.device not in ("cpu", "cuda"):
            raise SkiptuneError(f"device {self.device!r} is unknown; choose cpu or cuda")
        check_objective(self.loss)

    @property
    def steps(self) -> int:
        return self.images // self.batch

    def learning_rate_at(self, images: int) -> float:
        """Learning rate of the step that begins after ``images`` training images."""
        up = min(1.0, (images + self.batch) / max(self.warmup_images, 1))
        down = min(1.0, (self.images - images) / max(self.decay_images, 1))
        return self.learning_rate * max(0.0, min(up, down))

    def ema_decay_at(self, images: int) -> float:
        """Factor of the averaged weights in the step that ends after ``images`` training images."""
        halflife = min(self.ema_halflife, 0.05 * images)
        return 0.5 ** (self.batch / max(halflife, 1e-8))
