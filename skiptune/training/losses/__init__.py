"""Training losses of denoisers, by name: ``loss(denoiser, images, condition, generator) -> []``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Generator, Tensor

from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.training.fields import check_types
from skiptune.training.losses.edm import EDMLoss
from skiptune.training.losses.edm2 import EDM2Loss
from skiptune.training.losses.noise_prediction import NoisePredictionLoss
from skiptune.training.losses.skip_step import SkipStepLoss

Loss = Callable[[Denoiser, Tensor, Tensor | None, Generator], Tensor]

LOSSES: dict[str, Callable[..., Loss]] = {
    "edm": EDMLoss,
    "edm2": EDM2Loss,
    "noise_prediction": NoisePredictionLoss,
    "skip_step": SkipStepLoss,
}


def make_loss(settings: Mapping[str, Any]) -> Loss:
    """The loss ``{"name": ..., arguments}``. Raises SkiptuneError for an unknown name or wrong arguments."""
    arguments = dict(settings)
    name = arguments.pop("name", None)
    if name not in LOSSES:
        raise SkiptuneError(f"unknown loss {name!r}: choose one of {', '.join(LOSSES)}")
    check_types(arguments, LOSSES[name])
    try:
        return LOSSES[name](**arguments)
    except TypeError as error:
        raise SkiptuneError(f"loss {dict(settings)} does not fit: {error}") from error
