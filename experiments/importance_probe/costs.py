"""What the kinds of measurement cost: network evaluations per image, what rows share counted in each."""

from __future__ import annotations

from experiments.importance_probe.acting import FOUND, RANKED
from experiments.importance_probe.equation_run import IMAGES, NOISES
from experiments.importance_probe.prompt_scores import prompts_per_category
from experiments.importance_probe.prompts import SPLITS, count_images
from experiments.importance_probe.ranking_run import ABLATION
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from skiptune.importance import RELEASED
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.samplers import make_sampler

BLOCKS = {"sd_turbo": 7, "sd_2_1": 7, "sdxl_turbo": 5, "sdxl": 5}  # of the families, at either scale


def steps_and_copies(scale: Scale, row: RowConfig) -> tuple[int, int]:
    """Steps of the row's sampler, and network evaluations in each: 2 with guidance."""
    steps = make_sampler(**scale.sampler(row.sampler)).num_steps
    return steps, 1 if scale.role(row.role).guidance == 1 else 2


def of_scores(scale: Scale, row: RowConfig) -> float:
    """Sampling, and per prompt the ranking that a row's weights come from."""
    steps, copies = steps_and_copies(scale, row)
    return steps * copies + of_weights(scale, row)


def of_ranking(scale: Scale, row: RowConfig) -> float:
    """Half of what ranks the blocks for a prompt, for each of its images."""
    return of_one_ranking(scale, row, row.measure.get("ranking")) / len(SPLITS)


def of_one_ranking(scale: Scale, row: RowConfig, ranking: str | None) -> float:
    """The teacher and, at the most, every student, for one prompt."""
    steps, copies = steps_and_copies(scale, row)
    students = RELEASED.runs * RELEASED.iterations * RELEASED.candidates
    if ranking == ABLATION:
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
        once += of_one_ranking(scale, row, strategy["ranking"])
    if "tuning" in row.measure:
        tuning = row.measure["tuning"][scale.name]
        once += tuning["updates"] * tuning["batch"] * steps * 4  # student, its gradient as two, teacher
    return 2 * steps + once / images_of_pruning(scale, row)


def images_of_pruning(scale: Scale, row: RowConfig) -> int:
    """Images of one strategy."""
    images = row.measure["images"][scale.name]
    return int(images["blocks"] * images["size"])
