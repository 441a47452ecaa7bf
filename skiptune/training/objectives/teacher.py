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


def begin_as(student: Denoiser, teacher: Denoiser, may_grow: bool = False) -> None:
    """Copy all weights; with ``may_grow`` the student may have layers besides, which stay as they are.

    Raises:
        SkiptuneError: the student's network has other weights, or lacks some of the teacher's.
    """
    own, given = (
        {name: value.shape for name, value in net.state_dict().items()} for net in (student, teacher)
    )
    lacking = {name: shape for name, shape in own.items() if name not in given} if may_grow else {}
    if different := (own.items() - lacking.items()) ^ given.items():
        first = min(name for name, _ in different)
        raise SkiptuneError(
            f"the network to be trained differs from the one it begins as in {first}; describe that one"
        )
    student.load_state_dict(teacher.state_dict(), strict=False)
