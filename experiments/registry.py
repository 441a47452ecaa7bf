"""What a table configuration may name: kinds of measurement (``measure.kind``) and pictures (``figures``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.drawings.effects import draw_effects
from experiments.drawings.importance_map import draw_importance_map
from experiments.drawings.interpolation import draw_interpolation
from experiments.drawings.lines import draw_lines
from experiments.drawings.made import Made
from experiments.drawings.plane import draw_plane
from experiments.drawings.planted import draw_planted
from experiments.drawings.prompt_grid import draw_prompt_grid
from experiments.drawings.rho_curves import draw_rho_curves
from experiments.drawings.sample_pair import draw_sample_pair
from experiments.drawings.sample_table import draw_sample_table
from experiments.drawings.skip_coefficients import draw_skip_coefficients
from experiments.drawings.time_schedules import draw_time_schedules
from experiments.drawings.wavelet_images import draw_wavelet_images
from experiments.importance_probe import costs, planted
from experiments.importance_probe.importance import importance
from experiments.importance_probe.noise_error import noise_error
from experiments.importance_probe.planted import planted_importance
from experiments.importance_probe.prompt_scores import prompt_scores
from experiments.importance_probe.pruning import pruning
from experiments.importance_probe.variances import variances
from experiments.learned import with_coefficients
from experiments.measurement import Measurement, SeedBlocks
from experiments.s2dm import (
    interpolation,
    latent_distance,
    loss_ratio,
    sampling_time,
    training_cost,
    training_records,
)
from experiments.samples import SampleMeasurement
from experiments.scale import Scale
from experiments.skip_tuning import denoising_loss, gradient_norm, inversion, normalisation, skip_norms
from experiments.tables.config import SAMPLES, FigureConfig, RowConfig
from experiments.windows import with_window
from skiptune.errors import SkiptuneError
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.samplers import make_sampler

Make = Callable[[Scale, RowConfig, Mapping[str, Any], SeedBlocks, tuple[str, ...]], Measurement]
"""(scale, row, its intervention with the tuned value filled in, blocks, metrics) -> measurement."""
Drawing = Callable[[Path, FigureConfig, Made], str | None]
"""(file to write, configuration, what was measured) -> caption, or None if there is nothing to draw."""


@dataclass(frozen=True)
class Kind:
    """A kind of measurement, and what it costs: network evaluations per image, gradients counted as two.

    Attributes:
        weights, features: whether the files of the role's model and of its features must be there.
        images: of a row, where they are not those of the report seeds.
        prompts, scorer: whether the files of the scale's prompts and of the role's scorer must be there.
    """

    make: Make
    evaluations: Callable[[Scale, RowConfig], float]
    weights: bool = True
    features: bool = True
    images: Callable[[Scale, RowConfig], int] | None = None
    prompts: bool = False
    scorer: bool = False


def samples(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> SampleMeasurement:
    """Metrics of generated images; the measurement's setting ``features`` names another extractor.

    An intervention may give a ``window`` of its sampler's steps in place of bounds for sigma, or name
    ``learned`` coefficients of the role in place of their values.
    """
    features = row.measure.get("features")
    placed = with_window(intervention, scale.sampler(row.sampler))
    placed = with_coefficients(placed, scale.role(row.role), scale.checkpoints)
    return scale.samples(row.role, row.sampler, placed, blocks, metrics, features)


def sampler_evaluations(scale: Scale, row: RowConfig) -> float:
    """Counted by stepping the row's sampler on a stand-in, the identity."""
    made, calls = make_sampler(**scale.sampler(row.sampler)), 0

    def count(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x

    state = made.start(torch.zeros(1, 1, 1, 1))
    for _ in range(made.num_steps):
        state = made.step(count, state, lambda step: torch.zeros(1, 1, 1, 1))
    return calls


def evaluations_of_all_models(scale: Scale, row: RowConfig) -> float:
    """Every model of the row's measurement makes an image of each latent."""
    return len(row.measure.get("models", ())) * sampler_evaluations(scale, row)


def timed_evaluations(scale: Scale, row: RowConfig) -> float:
    """Those of the row's own sampler; of a chunk of seeds only a batch is drawn."""
    return sampler_evaluations(scale, row) * sampling_time.batch(scale, row) / CHUNK


KINDS: dict[str, Kind] = {
    SAMPLES: Kind(samples, sampler_evaluations),
    "gradient_norm": Kind(gradient_norm.gradient_norm, gradient_norm.evaluations),
    "skip_norms": Kind(skip_norms.skip_norms, skip_norms.evaluations),
    "denoising_loss": Kind(denoising_loss.denoising_loss, denoising_loss.evaluations),
    "inversion": Kind(inversion.inversion, inversion.evaluations),
    "normalisation": Kind(normalisation.normalisation, normalisation.evaluations),
    "interpolation": Kind(interpolation.interpolation, sampler_evaluations),
    "latent_distance": Kind(latent_distance.latent_distance, evaluations_of_all_models),
    "training_cost": Kind(
        training_cost.training_cost, training_cost.evaluations, weights=False, features=False
    ),
    "sampling_time": Kind(sampling_time.sampling_time, timed_evaluations, features=False),
    "loss_ratio": Kind(loss_ratio.loss_ratio, loss_ratio.evaluations, features=False),
    "prompt_scores": Kind(
        prompt_scores, costs.of_scores, images=costs.images_of_prompts, prompts=True, scorer=True
    ),
    "importance": Kind(
        importance, costs.of_ranking, features=False, images=costs.images_of_rankings, prompts=True
    ),
    "noise_error": Kind(
        noise_error, costs.of_noise_error, features=False, images=costs.images_of_prompts, prompts=True
    ),
    "planted_importance": Kind(
        planted_importance,
        planted.evaluations,
        features=False,
        images=planted.images,
        prompts=True,
        scorer=True,
    ),
    "variance_terms": Kind(
        variances, costs.of_variances, features=False, images=costs.images_of_variances, prompts=True
    ),
    "pruning": Kind(pruning, costs.of_pruning, images=costs.images_of_pruning),
    "training_records": Kind(training_records.training_records, training_records.evaluations, features=False),
}

DRAWINGS: dict[str, Drawing] = {
    "rho_curves": draw_rho_curves,
    "sample_pair": draw_sample_pair,
    "sample_table": draw_sample_table,
    "interpolation": draw_interpolation,
    "lines": draw_lines,
    "effects": draw_effects,
    "planted": draw_planted,
    "importance_map": draw_importance_map,
    "plane": draw_plane,
    "prompt_grid": draw_prompt_grid,
    "wavelet_images": draw_wavelet_images,
    "time_schedules": draw_time_schedules,
    "skip_coefficients": draw_skip_coefficients,
}


def measurement(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> Measurement:
    """The measurement of a row.

    Raises:
        SkiptuneError: an unknown kind, a missing file, or another precision or compilation than a kind has.
    """
    made = kind_of(row).make(scale, row, intervention, blocks, metrics)
    chosen = {"precision": scale.precision, "compile": scale.compile}
    for name, plain in {"precision": "fp32", "compile": False}.items():
        if chosen[name] != plain and not isinstance(made, SampleMeasurement):
            raise SkiptuneError(
                f"row {row.id}: kind {row.measure['kind']} has no {name} {chosen[name]}; "
                f"scale.{name} is for kind samples"
            )
    return made


def kind_of(row: RowConfig) -> Kind:
    """The kind of a row's measurement. Raises SkiptuneError for an unknown one."""
    kind: Kind = _named(row.measure["kind"], KINDS, "kind of measurement")
    return kind


def drawing(figure: FigureConfig) -> Drawing:
    """The function that draws a figure. Raises SkiptuneError for an unknown one."""
    draw: Drawing = _named(figure.draw, DRAWINGS, "drawing")
    return draw


def _named(name: str, known: Mapping[str, Any], what: str) -> Any:
    if name not in known:
        raise SkiptuneError(f"unknown {what} {name!r}; choose one of {', '.join(known)}")
    return known[name]
