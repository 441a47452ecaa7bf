"""Loss scaling for float16, whose gradients would underflow."""

from __future__ import annotations

import torch
from torch import Tensor

INITIAL, GROWTH, BACKOFF, INTERVAL = 2.0**16, 2.0, 0.5, 2000


class LossScale:
    """Dynamic loss scaling with the rule and constants of ``torch.amp.GradScaler``, on any device.

    Micikevicius et al. 2018, "Mixed Precision Training": a step whose gradients overflow is left out and the
    scale halved; after 2000 steps without overflow it is doubled.

    Attributes:
        kept: its state, a tensor of a checkpoint: scale, steps since its last change, steps left out.
    """

    def __init__(self) -> None:
        self.kept = {"loss_scale": torch.tensor([INITIAL, 0.0, 0.0], dtype=torch.float64)}

    @property
    def scale(self) -> float:
        """What the loss is multiplied with."""
        return float(self.kept["loss_scale"][0])

    @property
    def left_out(self) -> int:
        """Steps without an update of the weights so far."""
        return int(self.kept["loss_scale"][2])

    @property
    def exhausted(self) -> bool:
        """Whether gradients overflow even without scaling: the training has diverged."""
        return self.scale < 1

    def unscale(self, gradients: Tensor) -> bool:
        """Divide by the scale in place, then adapt it; returns whether all gradients are finite."""
        gradients /= self.scale
        finite = bool(gradients.isfinite().all())
        scale, steps, left_out = self.kept["loss_scale"].tolist()
        if not finite:
            scale, steps, left_out = scale * BACKOFF, 0, left_out + 1
        elif steps + 1 == INTERVAL:
            scale, steps = scale * GROWTH, 0
        else:
            steps += 1
        self.kept["loss_scale"].copy_(torch.tensor([scale, steps, left_out], dtype=torch.float64))
        return finite
