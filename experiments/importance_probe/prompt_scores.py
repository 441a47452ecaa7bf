"""Scores of images of prompts under an intervention (Importance Probe, Tables I and III to VI, Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.importance_probe.acting import FOUND, RANKED
from experiments.importance_probe.equation_run import EQUATIONS, EquationRun, exact_model
from experiments.importance_probe.probes import own_probe, probe_settings
from experiments.importance_probe.prompt_means import PromptMeans
from experiments.importance_probe.prompt_run import PromptRun
from experiments.importance_probe.prompts import PromptList, prompt_list
from experiments.importance_probe.ranking_run import PROBE, RANKINGS, RankingRun
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
    """``measure: {kind: prompt_scores, prompts: {scale: number per category}, ranking, probe}``.

    ``prompts`` replaces the scale's number; ``ranking`` says where an intervention by measured weights has
    them from, ``probe`` (with the constants that ``probe`` names), ``ablation`` or an equation. Metrics:
    ``score``, ``distance`` (of the features to those of the untouched image), ``<category>_<split>`` of the
    score; all have one value per prompt.

    Raises:
        SkiptuneError: measured weights without a ranking or a ranking without them, a missing file.
    """
    spec = measure_section(row)
    prompts = prompt_list(scale, prompts_per_category(spec, scale))
    source = source_of(spec, scale, row, intervention, prompts)
    spec.finish()
    role = scale.role(row.role)
    run = PromptRun(
        model=resolve_model(role.model, scale.checkpoints),
        prompts=prompts,
        guidance=role.classifier_free,
        sampler=scale.sampler(row.sampler),
        intervention=dict(intervention),
        scorer=scale.scorer(row.role),
        features=scale.extractor(row.role),
        micro_batch=scale.batch_of(row.role),
        device=scale.device,
        source=source,
    )
    return PromptMeans(run, prompts, metrics)


def source_of(
    spec: Section, scale: Scale, row: RowConfig, intervention: Mapping[str, Any], prompts: PromptList
) -> RankingRun | EquationRun | None:
    """What finds the importance or the weights that a row's intervention needs."""
    name = str(intervention.get("name"))
    named = spec.optional("ranking", str, None)
    known = RANKINGS if name in RANKED else tuple(EQUATIONS) if name == FOUND else ()
    if named not in (known or (None,)):
        one_of = f"one of {', '.join(known)}" if known else "none"
        raise SkiptuneError(
            f"{spec.where}: ranking is {named!r}, with the intervention {name} it must be {one_of}"
        )
    if named is None:
        return None
    if name in RANKED:
        return ranking_run(scale, row, prompts, named, spec)
    model = exact_model(scale, row.role)
    return EquationRun(model, prompts, scale.sampler(row.sampler), named, scale.device)


def ranking_run(
    scale: Scale,
    row: RowConfig,
    prompts: PromptList,
    ranking: str,
    spec: Section,
    own_draws: bool | None = None,
) -> RankingRun:
    """The importance of the blocks of a row's role for these prompts, along the row's sampler.

    ``probe: a name of configs/probe`` in the measurement takes the place of the scale's. Draws are every
    prompt's own where its latent is.

    Raises:
        SkiptuneError: a probe of a ranking that is none.
    """
    role, probe = scale.role(row.role), own_probe(spec)
    if probe is not None and ranking != PROBE:
        raise SkiptuneError(f"{spec.where}: ranking {ranking} has no probe")
    return RankingRun(
        model=resolve_model(role.model, scale.checkpoints),
        prompts=prompts,
        guidance=role.classifier_free,
        sampler=scale.sampler(row.sampler),
        ranking=ranking,
        micro_batch=scale.batch_of(row.role),
        device=scale.device,
        probe=probe_settings(scale, probe),
        own_draws=not prompts.shared if own_draws is None else own_draws,
    )


def prompts_per_category(spec: Section, scale: Scale) -> int | None:
    """The number that a measurement names for this scale, if it names one."""
    if "prompts" not in spec.data:
        return None
    counts = Section(spec.take("prompts", Mapping), f"{spec.where}.prompts")
    return int(counts.take(scale.name, int))
