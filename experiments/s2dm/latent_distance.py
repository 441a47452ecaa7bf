"""Do models map equal latents to similar images? (S2-DMs, Section 4.2, Figure 6, S2-C13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import Tensor

from experiments.image_means import ImageMeans
from experiments.measurement import SeedBlocks
from experiments.s2dm.latents import LatentRun, latent_arguments
from experiments.scale import Scale
from experiments.skip_tuning.network_run import measure_section
from experiments.tables.config import RowConfig
from skiptune.checkpoints.models import ModelRef, resolve_model
from skiptune.data.images import from_uint8
from skiptune.errors import SkiptuneError

EQUAL, DIFFERENT = "equal", "different"


@dataclass(frozen=True)
class LatentDistances(LatentRun):
    """Distances ``[N]`` of the images that several models make of the latents of numbered seeds.

    ``<d>_equal_<i>_<j>``, i < j: between models i and j, from equal latents; ``<d>_different_<i>``: between
    the images of model i from the latent of a seed and from that of the next one, the last of a chunk with
    its first. ``<d>`` as ``image_distances`` says.
    """

    kind: ClassVar[str] = "latent distances"

    models: tuple[ModelRef, ...]

    def resolved(self) -> dict[str, Any]:
        own = super().resolved()
        del own["model"]  # it is one of these
        return {**own, "models": [model.identity for model in self.models]}

    def compute(self, seeds: range) -> dict[str, Tensor]:
        latents = self.latents(seeds)
        made = [self.decoded(model, latents, seeds) for model in self.models]
        images = [one for one, _ in made]
        features = [self.seen(one) for one in images]
        found: dict[str, Tensor] = {}
        for i, j in combinations(range(len(images)), 2):
            between = image_distances((images[i], features[i]), (images[j], features[j]))
            found |= {f"{name}_{EQUAL}_{i}_{j}": value for name, value in between.items()}
        for i, (own, seen) in enumerate(zip(images, features, strict=True)):
            between = image_distances((own, seen), (own.roll(-1, 0), seen.roll(-1, 0)))
            found |= {f"{name}_{DIFFERENT}_{i}": value for name, value in between.items()}
        calls = sum(each for _, each in made) / len(made)
        return found | {"nfe": torch.full((len(seeds),), calls)}


def image_distances(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Between images ``[N, C, H, W]`` uint8 with their features ``[N, d]``, pair by pair, ``[N]`` float64.

    ``pixel``: root mean square difference, of pixels in [-1, 1]; ``feature``: Euclidean.
    """
    pixels = (from_uint8(a[0]) - from_uint8(b[0])).to(torch.float64).flatten(1)
    return {"pixel": pixels.square().mean(1).sqrt(), "feature": (a[1] - b[1]).norm(dim=1)}


def latent_distance(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> ImageMeans:
    """``measure: {kind: latent_distance, models: [roles], other: role}``; metrics as ``image_distances``.

    With ``other``: between the row's role and that one, from equal latents; without: between different
    latents of the row's role. Both are among ``models``; rows with equal ``models`` are one run.
    """
    spec = measure_section(row)
    roles: Sequence[str] = spec.take("models", Sequence)
    other = spec.optional("other", str, None)
    spec.finish()
    if strange := [name for name in (row.role, other) if name is not None and name not in roles]:
        raise SkiptuneError(f"{spec.where}.models lacks the role {strange[0]}")
    if other == row.role:
        raise SkiptuneError(f"{spec.where}.other is the row's own role; leave it out or name another")
    models = tuple(resolve_model(scale.role(name).model, scale.checkpoints) for name in roles)
    arguments = latent_arguments(scale, row, intervention) | {"model": models[0]}
    run = LatentDistances(**arguments, models=models)
    own = roles.index(row.role)
    if other is None:
        which = f"{DIFFERENT}_{own}"
    else:
        i, j = sorted((own, roles.index(other)))
        which = f"{EQUAL}_{i}_{j}"
    return ImageMeans(run, blocks, metrics, {name: f"{name}_{which}" for name in metrics})
