"""Scores of images of prompts under an intervention (Importance Probe, Tables I and III to VI, Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.importance_probe.acting import IMPORTANCE
from experiments.importance_probe.prompt_means import PromptMeans
from experiments.importance_probe.prompt_run import PromptRun
from experiments.importance_probe.prompts import PromptList, count_images, prompt_list
from experiments.importance_probe.ranking_run import RANKINGS, RankingRun
from experiments.measurement import SeedBlocks
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from experiments.tables.parsing import Section
from skiptune.checkpoints.models import resolve_model
from skiptune.errors import SkiptuneError


def prompt_scores(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> PromptMeans:
    """``measure: {kind: prompt_scores, prompts: {scale: number per category}, ranking: probe | ablation}``.

    ``prompts`` replaces the scale's number; the ``ranking`` is for an intervention by importance. Metrics:
    ``score``, ``distance`` (of the features to those of the untouched image), ``<category>_<split>`` of the
    score; all have one value per prompt.

    Raises:
        SkiptuneError: importance without a ranking or a ranking without it, a missing file.
    """
    spec = measure_section(row)
    count = prompts_per_category(spec, scale)
    ranking = spec.choice("ranking", RANKINGS) if "ranking" in spec.data else None
    spec.finish()
    if (intervention.get("name") == IMPORTANCE) != (ranking is not None):
        raise SkiptuneError(f"{spec.where}: a ranking goes with the intervention {IMPORTANCE}, and it with one")
    prompts = prompt_list(scale, count)
    role = scale.role(row.role)
    run = PromptRun(
        model=resolve_model(role.model, scale.checkpoints),
        prompts=prompts,
        guidance=role.guidance,
        sampler=scale.sampler(row.sampler),
        intervention=dict(intervention),
        scorer=scale.scorer(row.role),
        features=scale.extractor(row.role),
        micro_batch=scale.micro_batch,
        device=scale.device,
        ranking=None if ranking is None else ranking_run(scale, row, prompts, ranking),
    )
    return PromptMeans(run, prompts, metrics)


def ranking_run(
    scale: Scale, row: RowConfig, prompts: PromptList, ranking: str, **more: Any
) -> RankingRun:
    """The importance of the blocks of a row's role for these prompts, along the row's sampler."""
    role = scale.role(row.role)
    return RankingRun(
        model=resolve_model(role.model, scale.checkpoints),
        prompts=prompts,
        guidance=role.guidance,
        sampler=scale.sampler(row.sampler),
        ranking=ranking,
        device=scale.device,
        **more,
    )


def prompts_per_category(spec: Section, scale: Scale) -> int | None:
    """The number that a measurement names for this scale, if it names one."""
    if "prompts" not in spec.data:
        return None
    counts = Section(spec.take("prompts", Mapping), f"{spec.where}.prompts")
    return int(counts.take(scale.name, int))


def images(scale: Scale, row: RowConfig) -> int:
    """Of all prompts and both splits."""
    return count_images(scale, prompts_per_category(measure_section(row), scale))
