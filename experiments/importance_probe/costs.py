"""What the kinds of measurement cost: network evaluations per image, what rows share counted in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.importance_probe import variances
from experiments.importance_probe.acting import FOUND, RANKED
from experiments.importance_probe.equation_run import IMAGES, NOISES
from experiments.importance_probe.probes import probe_settings
from experiments.importance_probe.prompt_scores import prompts_per_category
from experiments.importance_probe.prompts import SPLITS, count_images
from experiments.importance_probe.ranking_run import ABLATION
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.samplers import make_sampler

BLOCKS = {"sd_turbo": 7, "sd_2_1": 7, "sdxl_turbo": 5, "sdxl": 5}  # of the families, at either scale


def steps_and_copies(scale: Scale, row: RowConfig) -> tuple[int, int]:
    """Steps of the row's sampler, and network evaluations in each: 2 with guidance."""
    steps = make_sampler(**scale.sampler(row.sampler)).num_steps
    return steps, scale.role(row.role).classifier_free.copies


def of_scores(scale: Scale, row: RowConfig) -> float:
    """Sampling, and per prompt the ranking that a row's weights come from."""
    steps, copies = steps_and_copies(scale, row)
    return steps * copies + of_weights(scale, row)


def of_ranking(scale: Scale, row: RowConfig) -> float:
    """Half of what ranks the blocks for a prompt, for each of its images."""
    return of_one_ranking(scale, row, row.measure) / len(SPLITS)


def of_one_ranking(scale: Scale, row: RowConfig, settings: Mapping[str, Any]) -> float:
    """The teacher and, at the most, every student, for one prompt; ``settings`` name ranking and probe."""
    steps, copies = steps_and_copies(scale, row)
    probe = probe_settings(scale, settings.get("probe"))
    students = probe.runs * probe.iterations * probe.candidates
    if settings.get("ranking") == ABLATION:
        students = BLOCKS[row.role]
    return float(copies * steps * (1 + students))


def of_noise_error(scale: Scale, row: RowConfig) -> float:
    """One call a step, and what its weights take."""
    steps, _ = steps_and_copies(scale, row)
    return steps + of_weights(scale, row)


def of_weights(scale: Scale, row: RowConfig) -> float:
    """What finding a row's weights takes for every image; nothing if they are given."""
    name = row.intervention.get("name")
    if name in RANKED:
        return of_ranking(scale, row)
    if name == FOUND:
        steps, _ = steps_and_copies(scale, row)
        return steps * NOISES * (1 + BLOCKS[row.role]) * IMAGES / CHUNK
    return 0.0


def of_variances(scale: Scale, row: RowConfig) -> float:
    """Of the images of a case, divided among the rows of its run, one for every step and block."""
    return variances.NOISES * 2 * (1 + 1 / BLOCKS[row.role])


def images_of_variances(scale: Scale, row: RowConfig) -> int:
    """Those of all cases."""
    return int(row.measure["cases"]) * variances.IMAGES


def images_of_prompts(scale: Scale, row: RowConfig) -> int:
    """One of every prompt and split."""
    return count_images(scale, prompts_per_category(measure_section(row), scale))


def images_of_rankings(scale: Scale, row: RowConfig) -> int:
    """Likewise; of one prompt two for every probe."""
    if "prompt" in row.measure:
        return len(SPLITS) * int(row.measure["probes"])
    return images_of_prompts(scale, row)


def of_pruning(scale: Scale, row: RowConfig) -> float:
    """Sampling with and without pruning; ranking and fine-tuning of a student divided over its images."""
    steps, _ = steps_and_copies(scale, row)
    once, strategy = 0.0, row.measure["strategy"]
    if "ranking" in strategy:
        once += of_one_ranking(scale, row, strategy)
    if "tuning" in row.measure:
        tuning = row.measure["tuning"][scale.name]
        once += tuning["updates"] * tuning["batch"] * steps * 4  # student, its gradient as two, teacher
    return 2 * steps + once / images_of_pruning(scale, row)


def images_of_pruning(scale: Scale, row: RowConfig) -> int:
    """Images of one strategy."""
    images = row.measure["images"][scale.name]
    return int(images["blocks"] * images["size"])
