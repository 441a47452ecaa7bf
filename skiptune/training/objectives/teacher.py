"""The trained network that another begins as; where it is a teacher, it stays and is learned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.checkpoints.models import load_model, resolve_model
from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError

Teacher = str | Mapping[str, Any]


def load_teacher(teacher: Teacher, checkpoints: str) -> Denoiser:
    """A desk model by name, or any model by its configuration, whose file lies in the folder ``checkpoints``.

    Raises:
        SkiptuneError: it is not there, damaged, or not what the configuration describes.
    """
    if isinstance(teacher, str):
        return load_desk_denoiser(teacher).denoiser
    return load_model(resolve_model(teacher, Path(checkpoints))).eval().requires_grad_(False)


def begin_as(student: Denoiser, teacher: Denoiser) -> None:
    """Copy all weights. Raises SkiptuneError if the student's network has other ones."""
    try:
        student.load_state_dict(teacher.state_dict())
    except RuntimeError as error:
        shapes = [
            {name: value.shape for name, value in net.state_dict().items()} for net in (student, teacher)
        ]
        first = min(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise SkiptuneError(
            f"the network to be trained differs from the one it begins as in {first}; describe that one"
        ) from error
