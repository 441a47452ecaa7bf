"""Fine-tuned transformers of a pruned network: a file of their weights alone, put over those of its model.

The file of the student of ``model`` that skips ``blocks`` is called ``student_name(model, blocks)``. Training
writes it (``scripts/train.py`` with ``configs/training/pruned_student_*.yaml``), a measurement finds it by
that name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.checkpoints.desk import DESK_FOLDER, load_desk_network, save_desk_network
from skiptune.errors import SkiptuneError

KIND = "pruned student"


@dataclass(frozen=True, eq=False)
class Student:
    """Weights by their names in the network, the sha256 of their file and of the model that they belong to.

    Attributes:
        blocks: numbers of the blocks that it skips at every step, as it was trained.
    """

    weights: Mapping[str, Tensor]
    sha256: str
    model_sha256: str
    blocks: tuple[tuple[int, ...], ...]

    @contextlib.contextmanager
    def attached_to(self, denoiser: nn.Module) -> Iterator[None]:
        """Use its transformers in ``denoiser`` inside the ``with`` block; leaving it restores the network.

        To skip the blocks is up to ``AttentionPruning``.

        Raises:
            SkiptuneError: another network.
        """
        parameters = dict(denoiser.named_parameters())
        for name, value in self.weights.items():
            if name not in parameters or parameters[name].shape != value.shape:
                raise SkiptuneError(
                    f"the network has no {name} {list(value.shape)}: the student is another's"
                )
        before = {name: parameters[name].detach().clone() for name in self.weights}
        try:
            put(parameters, self.weights)
            yield
        finally:
            put(parameters, before)


@torch.no_grad()
def put(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)


def student_name(model: str, blocks: Sequence[Sequence[int]]) -> str:
    """``MODEL_without_3_0-6``: block 3 at the first step, 0 and 6 at the second; ``none`` where none is."""
    return f"{model}_without_" + "_".join("-".join(map(str, step)) or "none" for step in blocks)


class _Weights(nn.Module):
    """Parameters of given names and shapes."""

    def __init__(self, description: Mapping[str, Any]):
        super().__init__()
        for name, shape in description["shapes"].items():
            self.register_parameter(stored(name), nn.Parameter(torch.empty(shape)))


def stored(name: str) -> str:
    """A parameter's name as one that has no dots, which a module's own parameters may not have."""
    return name.replace(".", "/")


def save_student(
    name: str,
    weights: Mapping[str, Tensor],
    blocks: Sequence[Sequence[int]],
    model_sha256: str,
    record: dict[str, Any],
    folder: Path = DESK_FOLDER,
) -> Path:
    """Write the transformers (float16) and their record; returns the path of the weights.

    Args:
        weights: by their names in the network.
        model_sha256: of the file of the whole network's weights.
    """
    description = {
        "shapes": {key: list(value.shape) for key, value in weights.items()},
        "model_sha256": model_sha256,
        "blocks": [list(step) for step in blocks],
    }
    state = {stored(key): value for key, value in weights.items()}
    return save_desk_network(name, KIND, description, _Weights(description), state, record, folder)


def load_student(name: str, folder: Path = DESK_FOLDER) -> Student:
    """The student of that name, checked against the sha256 of its record.

    Raises:
        SkiptuneError: there is none, or its file is damaged.
    """
    module, sha256, description = load_desk_network(name, KIND, _Weights, folder)
    weights = {key: module.get_parameter(stored(key)).detach() for key in description["shapes"]}
    blocks = tuple(tuple(step) for step in description["blocks"])
    return Student(weights, sha256, str(description["model_sha256"]), blocks)
