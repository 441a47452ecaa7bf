"""How far pruned sampling is from the whole network (Importance Probe, Figure 3, IP-C8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.importance_probe.prompt_means import joined
from experiments.importance_probe.prompt_scores import ranking_run
from experiments.importance_probe.prompts import PromptBlocks, one_prompt
from experiments.importance_probe.pruning_run import FineTuning, PruningRun, Strategy, StudentRun
from experiments.importance_probe.ranking_run import RANKINGS
from experiments.measurement import Evaluated, SeedBlocks
from experiments.network_run import measure_section
from experiments.scale import Scale
from experiments.tables.config import RowConfig
from experiments.tables.parsing import Section
from skiptune.checkpoints.models import resolve_model
from skiptune.errors import SkiptuneError
from skiptune.evaluation.frechet import frechet_distance
from skiptune.evaluation.metrics import METRIC_NUMERICS
from skiptune.evaluation.perceptual import load_lpips
from skiptune.evaluation.statistics import fit_gaussian
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.runtime.store import RunStore

FID, DISTANCE = "fid", "distance"
BLOCK = 50  # images of which a block has FID and mean distance


@dataclass(frozen=True)
class Closeness:
    """Of blocks of ``BLOCK`` images: FID to the whole network's images of equal noise, and the mean distance
    of the images, pair by pair."""

    settings: PruningRun
    metrics: tuple[str, ...]

    @property
    def blocks(self) -> PromptBlocks:
        return PromptBlocks(0, 1, CHUNK, self.settings.images)

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "closeness of pruned images",
            "numerics": METRIC_NUMERICS,
            "run": self.settings.resolved(),
            "block": BLOCK,
            "metrics": sorted(self.metrics),
        }

    def evaluate(self, store: RunStore) -> Evaluated:
        """Raises SkiptuneError for another metric."""
        if unknown := sorted(set(self.metrics) - {FID, DISTANCE}):
            raise SkiptuneError(f"no metric {unknown[0]!r} of pruned images; there are {FID} and {DISTANCE}")
        own = joined(self.settings, self.blocks, store)
        whole = joined(self.settings.whole, self.blocks, store)
        pairs = zip(own["features"].split(BLOCK), whole["features"].split(BLOCK), strict=True)
        found = {
            FID: [frechet_distance(fit_gaussian(ours), fit_gaussian(theirs)) for ours, theirs in pairs],
            DISTANCE: [float(block.mean()) for block in own[DISTANCE].split(BLOCK)],
        }
        return Evaluated({name: found[name] for name in self.metrics}, float(own["nfe"].double().mean()))


def pruning(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> Closeness:
    """``measure: {kind: pruning, prompt: {scale: text}, images, distance, strategy, tuning}``.

    ``strategy`` is ``{blocks: [numbers for every step]}`` or ``{ranking, skip, choice}``; ``tuning``, by
    scale ``{updates, batch, learning_rate}``, fine-tunes the student's transformers first. Noise is that of
    seed 42 on, as in the released program. ``distance``, by scale ``features`` or ``lpips``.
    """
    spec = measure_section(row)
    text = Section(spec.take("prompt", Mapping), f"{spec.where}.prompt").take(scale.name, str)
    count = images_of_row(spec, scale)
    role = scale.role(row.role)
    if role.guidance != 1:
        raise SkiptuneError(f"{spec.where}: pruning is measured without guidance; choose a Turbo role")
    distances = Section(spec.take("distance", Mapping), f"{spec.where}.distance")
    lpips = distances.choice(scale.name, ("features", "lpips")) == "lpips"
    strategy = strategy_of(
        Section(spec.take("strategy", Mapping), f"{spec.where}.strategy"), scale, row, text
    )
    tuning = spec.optional("tuning", Mapping, None)
    spec.finish()
    model = resolve_model(role.model, scale.checkpoints)
    sampler = scale.sampler(row.sampler)
    student = None
    if tuning is not None:
        chosen = Section(tuning, f"{spec.where}.tuning").take(scale.name, Mapping)
        student = StudentRun(model, text, sampler, strategy, FineTuning(**chosen), scale.device)
    run = PruningRun(
        model=model,
        prompt=text,
        sampler=sampler,
        strategy=strategy,
        features=scale.extractor(row.role),
        images=count,
        first_seed=one_prompt(scale, text).seeds[0],
        micro_batch=scale.batch_of(row.role),
        device=scale.device,
        student=student,
        lpips=(scale.checkpoints, load_lpips(folder=scale.checkpoints).digest) if lpips else None,
    )
    return Closeness(run, metrics)


def strategy_of(section: Section, scale: Scale, row: RowConfig, text: str) -> Strategy:
    """From a row's settings; a ranking is that of the prompt, on the noise of the split train."""
    if "blocks" in section.data:
        blocks: Sequence[Sequence[int]] = section.take("blocks", Sequence)
        section.finish()
        if not blocks or not all(isinstance(step, Sequence) for step in blocks):
            raise SkiptuneError(f"{section.where}.blocks must be a list of block numbers for every step")
        return Strategy(tuple(tuple(step) for step in blocks))
    ranking = section.choice("ranking", RANKINGS)
    skip, choice = section.take("skip", int), section.take("choice", int)
    found = ranking_run(scale, row, one_prompt(scale, text), ranking, section)
    section.finish()
    return Strategy(ranking=found, skip=skip, choice=choice)


def images_of_row(spec: Section, scale: Scale) -> int:
    """Images of a row, of one chunk at the most. Raises SkiptuneError for what is no multiple of a block."""
    counts = Section(spec.take("images", Mapping), f"{spec.where}.images")
    count = int(counts.take(scale.name, int))
    if not 0 < count <= CHUNK or count % BLOCK:
        raise SkiptuneError(f"{spec.where}.images is {count}: give a multiple of {BLOCK} up to {CHUNK}")
    return count
