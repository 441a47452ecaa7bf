"""What a training run minimises: the one interface between the loop and denoising or distillation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from skiptune.data import Dataset
from skiptune.denoisers import Denoiser
from skiptune.training.losses import Loss

Data = Callable[[], tuple[Tensor, Tensor | None]]
"""Clean images ``[N, C, H, W]`` in [-1, 1] and their ``Objective.condition`` in a step, made when called."""


class Objective(nn.Module):
    """The base: one denoiser is trained and exported.

    A module, so that every network in it moves and is compiled with it; only ``trained`` has parameters that
    need a gradient.

    Attributes:
        denoiser: what is exported in the end.
        betas: of Adam.
        needs_data: whether ``loss`` calls ``data``.
        exported: prefix of the denoiser's names in ``trained``.
    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    needs_data: ClassVar[bool] = True
    exported: ClassVar[str] = ""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser

    @property
    def trained(self) -> nn.Module:
        """Its parameters are optimised, averaged and checkpointed."""
        return self.denoiser

    @property
    def kept(self) -> dict[str, Tensor]:
        """Further tensors of a checkpoint, which is restored by writing into them."""
        return {}

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        """Loss ``[]`` of ``count`` images; random numbers come from ``generator``, which is of the CPU."""
        raise NotImplementedError

    def condition(self, labels: Tensor, dataset: Dataset) -> Tensor | None:
        """What ``data`` gives for labels ``[N]``: one-hot rows ``[N, K]``, if the network has classes."""
        classes = self.denoiser.num_classes
        return F.one_hot(labels, classes).float() if classes else None

    def after_step(self) -> None:
        """Called when the optimiser has changed the parameters."""

    def networks(self) -> Iterator[Denoiser]:
        """Every denoiser in it."""
        return (module for module in self.modules() if isinstance(module, Denoiser))


class Denoising(Objective):
    """A loss of one network on clean images (``skiptune.training.losses``)."""

    def __init__(self, denoiser: Denoiser, loss: Loss):
        super().__init__(denoiser)
        self.loss_function = loss

    def loss(self, count: int, data: Data, generator: Generator) -> Tensor:
        clean, condition = data()
        return self.loss_function(self.denoiser, clean, condition, generator)


def gaussian(shape: tuple[int, ...] | torch.Size, generator: Generator, device: torch.device) -> Tensor:
    """Standard normal images ``[N, C, H, W]``, drawn on the CPU."""
    return torch.randn(shape, generator=generator).to(device, memory_format=torch.channels_last)
