"""Paths between two latents: how far the images are from that of the first end (S2-DMs, Figure 6, S2-C14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.s2dm.latents import LatentRun, latent_arguments
from experiments.scale import Scale
from experiments.skip_tuning.network_run import measure_section
from experiments.tables.config import RowConfig
from skiptune.errors import SkiptuneError
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.samplers.interpolation import PATHS

PATHS_KEPT = 4  # the images of the first paths of every chunk are stored for the picture


@dataclass(frozen=True)
class Interpolation(LatentRun):
    """Every ``points`` seeds are one path, from the latent of the first of them to that of the last.

    Per image ``[N]``: ``distance`` of its features from those of the path's first image, and, equal for all
    images of a path, what ``path_shape`` says of it; ``images [PATHS_KEPT points, C, H, W]`` uint8.
    """

    kind: ClassVar[str] = "interpolation"

    path: str
    points: int

    def __post_init__(self) -> None:
        if self.points < 3 or CHUNK % self.points:
            raise SkiptuneError(
                f"a path of {self.points} points: use 3 or more, and a divisor of {CHUNK}, such as 10"
            )

    def compute(self, seeds: range) -> dict[str, Tensor]:
        own = self.latents(seeds).unflatten(0, (-1, self.points))
        first, last = (own[:, end].repeat_interleave(self.points, 0) for end in (0, -1))
        weights = torch.linspace(0, 1, self.points, dtype=torch.float64).repeat(len(own))
        images, calls = self.decoded(self.model, PATHS[self.path](first, last, weights), seeds)
        features = self.seen(images).unflatten(0, (-1, self.points))
        distance = (features - features[:, :1]).norm(dim=2)
        shape = {name: value.repeat_interleave(self.points) for name, value in path_shape(distance).items()}
        return {
            "distance": distance.flatten(),
            **shape,
            "images": images[: PATHS_KEPT * self.points],
            "nfe": torch.full((len(seeds),), calls),
        }


def path_shape(distance: Tensor) -> dict[str, Tensor]:
    """What the distances ``[P, n]`` from the first image say of paths, each ``[P]`` float64.

    ``monotone``: 1 if every step leads further away, else 0; ``rising``: the share of steps that do;
    ``largest``: the largest step over the distance of the two ends, 1 where the ends are equal.
    """
    steps = distance.to(torch.float64).diff(dim=1)
    total = distance[:, -1].to(torch.float64)
    largest = torch.where(total > 0, steps.amax(1) / total, 1.0)
    rising = (steps > 0).double().mean(1)
    return {"monotone": (steps > 0).all(1).double(), "rising": rising, "largest": largest}


def interpolation(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: interpolation, path: spherical or linear, points}``; metrics as ``path_shape``."""
    spec = measure_section(row)
    path, points = spec.choice("path", tuple(PATHS)), spec.take("points", int)
    spec.finish()
    run = Interpolation(**latent_arguments(scale, row, intervention), path=path, points=points)
    return ImageMeans(run, blocks, metrics)
