"""What the records beside trained weights say of their trainings: how many, in which precision, diverged?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.checkpoints.models import resolve_model
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import file_digest, read_json
from skiptune.runtime.precision import HALF_PRECISIONS
from skiptune.runtime.seed_chunks import CHUNK, NUMERICS

TENTH = 0.1


@dataclass(frozen=True)
class TrainingRecords:
    """Counts over the records: ``trainings``, ``half_precision``, ``diverged``, alike in every seed block."""

    records: tuple[Path, ...]

    def resolved(self) -> dict[str, Any]:
        digests = {path.stem: file_digest(path) for path in self.records}
        return {"kind": "training records", "numerics": NUMERICS, "records": digests, "chunk": CHUNK}

    def compute(self, seeds: range) -> dict[str, Tensor]:
        records = [read_json(path) for path in self.records]
        counts = {
            "trainings": len(records),
            "half_precision": sum(one["settings"]["precision"] in HALF_PRECISIONS for one in records),
            "diverged": sum(diverged(one) for one in records),
        }
        return {name: torch.full((len(seeds),), float(count)) for name, count in counts.items()}


def diverged(record: Mapping[str, Any]) -> bool:
    """Whether a training ended before its last step, or its loss is not finite or did not fall.

    Fallen: the mean of the last tenth of the curve is below that of the first. A training whose loss,
    gradient or weights are not finite is stopped and leaves no weights, so that its record is missing, which
    is an error and not a count; what is counted here is what a record can show.
    """
    settings, curve = record["settings"], record["loss_curve"]
    losses = [loss for _, loss in curve]
    if not losses or not all(math.isfinite(loss) for loss in losses):
        return True
    whole = settings["images"] // settings["batch"] * settings["batch"]
    part = max(1, round(TENTH * len(losses)))
    return curve[-1][0] < whole or (len(losses) > 1 and mean(losses[-part:]) >= mean(losses[:part]))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def training_records(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: training_records}``: of all training seeds of the row's role.

    Raises:
        SkiptuneError: weights or the record beside them are missing.
    """
    measure_section(row).finish()
    role = scale.role(row.role)
    path = resolve_model(role.model, scale.checkpoints).path  # of one of the training seeds
    ends = (suffix for suffix in role.suffixes if suffix and path.stem.endswith(suffix))
    name = path.stem.removesuffix(next(ends, ""))
    records = tuple(path.with_name(f"{name}{suffix}.json") for suffix in role.suffixes)
    for path in records:
        if not path.is_file():
            raise SkiptuneError(f"{path}, the record of a training, is missing; train the model again")
        if not read_json(path).get("settings") or not read_json(path).get("loss_curve"):
            raise SkiptuneError(f"{path} is no record of a training: it has no settings or no loss curve")
    return ImageMeans(TrainingRecords(records), blocks, metrics)


def evaluations(scale: Scale, row: RowConfig) -> float:
    return 0.0
