"""The frozen network that a student learns from and begins as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.checkpoints.models import load_model, resolve_model
from skiptune.checkpoints.prompted import inputs_of_prompts
from skiptune.denoisers import Denoiser
from skiptune.denoisers.text_to_image import TextToImage
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


def inputs_for_teacher(
    teacher: Teacher, network: Denoiser, prompts: Sequence[str], checkpoints: str
) -> dict[str, Tensor]:
    """Inputs of the loaded teacher for each prompt, ``[P, ...]``.

    Raises:
        SkiptuneError: no prompt, or a teacher that takes none.
    """
    if isinstance(prompts, str) or not prompts:
        raise SkiptuneError(f"prompts are a list with at least one text, not {prompts!r}")
    if not isinstance(teacher, str):
        return inputs_of_prompts(resolve_model(teacher, Path(checkpoints)), network, prompts)
    if not isinstance(network, TextToImage):
        raise SkiptuneError(f"{teacher} takes no prompts; choose a text-to-image teacher")
    return network.inputs(prompts)


def begin_as(student: Denoiser, teacher: Denoiser) -> None:
    """Copy the teacher's weights. Raises SkiptuneError if the student's network has other ones."""
    try:
        student.load_state_dict(teacher.state_dict())
    except RuntimeError as error:
        shapes = [
            {name: value.shape for name, value in net.state_dict().items()} for net in (student, teacher)
        ]
        first = min(name for name, _ in shapes[0].items() ^ shapes[1].items())
        raise SkiptuneError(
            f"the student differs from its teacher in {first}; describe the teacher's network"
        ) from error
