"""How far pruned sampling is from the whole network (Importance Probe, Figure 3, IP-C8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.importance_probe.prompt_means import joined
from experiments.importance_probe.prompt_scores import ranking_run
from experiments.importance_probe.prompts import one_prompt
from experiments.importance_probe.pruning_run import PruningRun, Strategy, StudentRun
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
from skiptune.training.pruned_student import DECAYS, FineTuning

FID, DISTANCE = "fid", "distance"


@dataclass(frozen=True)
class ImageBlocks(SeedBlocks):
    """The chunk that holds all images of a strategy; ``noise``: the seeds of their noise, block by block."""

    noise: tuple[range, ...] = ()

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        return tuple((seeds[0], seeds[-1]) for seeds in self.noise)


@dataclass(frozen=True)
class Images:
    """``blocks`` times ``size`` images of a row, of noise seeds from ``first_seed`` on, all in one chunk.

    A metric has one value per block. FID depends on ``size``: compare values of one size only.
    """

    first_seed: int
    blocks: int
    size: int

    @classmethod
    def of(cls, section: Section) -> Images:
        """Raises SkiptuneError for none, or more than a chunk holds."""
        made = cls(*(section.take(key, int) for key in ("first_seed", "blocks", "size")))
        section.finish()
        if made.blocks < 1 or made.size < 2 or made.count > CHUNK:
            raise SkiptuneError(
                f"{section.where}: {made.blocks} blocks of {made.size} images; give at least 1 of 2, and "
                f"{CHUNK} images at the most"
            )
        return made

    @property
    def count(self) -> int:
        return self.blocks * self.size

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.count)


@dataclass(frozen=True)
class Closeness:
    """By block of images: FID to the whole network's images of equal noise, and the mean distance of the
    images, pair by pair. ``chosen`` are the ``blocks`` skipped, "0+6 / 3": 0 and 6, then 3."""

    settings: PruningRun
    images: Images
    metrics: tuple[str, ...]

    @property
    def blocks(self) -> ImageBlocks:
        seeds, size = self.images.seeds, self.images.size
        return ImageBlocks(0, 1, CHUNK, tuple(seeds[i : i + size] for i in range(0, len(seeds), size)))

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "kind": "closeness of pruned images",
            "numerics": METRIC_NUMERICS,
            "run": self.settings.resolved(),
            "block": self.images.size,
            "metrics": sorted(self.metrics),
        }

    def evaluate(self, store: RunStore) -> Evaluated:
        """Raises SkiptuneError for another metric."""
        if unknown := sorted(set(self.metrics) - {FID, DISTANCE}):
            raise SkiptuneError(f"no metric {unknown[0]!r} of pruned images; there are {FID} and {DISTANCE}")
        own = joined(self.settings, self.blocks, store)
        whole = joined(self.settings.whole, self.blocks, store)
        size, strategy = self.images.size, self.settings.strategy
        pairs = zip(own["features"].split(size), whole["features"].split(size), strict=True)
        found = {
            FID: [frechet_distance(fit_gaussian(ours), fit_gaussian(theirs)) for ours, theirs in pairs],
            DISTANCE: [float(block.mean()) for block in own[DISTANCE].split(size)],
        }
        ranking = (
            {} if strategy.ranking is None else {"ranking": joined(strategy.ranking, self.blocks, store)}
        )
        skipped = " / ".join("+".join(map(str, step)) for step in strategy.blocks_of(ranking))
        return Evaluated(
            {name: found[name] for name in self.metrics},
            float(own["nfe"].double().mean()),
            {"blocks": skipped},
        )


def pruning(
    scale: Scale,
    row: RowConfig,
    intervention: Mapping[str, Any],
    blocks: SeedBlocks,
    metrics: tuple[str, ...],
) -> Closeness:
    """``measure: {kind: pruning, prompt: {scale: text}, images, distance, strategy, tuning}``.

    ``strategy`` is ``{blocks: [numbers for every step]}`` or ``{ranking, skip, choice, probe}``. By scale:
    ``images: {first_seed, blocks, size}``; ``distance``, ``features`` or ``lpips``; ``tuning: {updates,
    batch, learning_rate, decay}`` and perhaps ``latents`` and ``first_seed``, by which the student's
    transformers are fine-tuned first, on other seeds than those of the images.

    Raises:
        SkiptuneError: settings that do not fit, a role with guidance, a missing file.
    """
    spec = measure_section(row)
    text = Section(spec.take("prompt", Mapping), f"{spec.where}.prompt").take(scale.name, str)
    images = Images.of(of_scale(spec, "images", scale))
    role = scale.role(row.role)
    if role.guidance != 1:
        raise SkiptuneError(f"{spec.where}: pruning is measured without guidance; choose a Turbo role")
    distances = Section(spec.take("distance", Mapping), f"{spec.where}.distance")
    lpips = distances.choice(scale.name, ("features", "lpips")) == "lpips"
    strategy = strategy_of(
        Section(spec.take("strategy", Mapping), f"{spec.where}.strategy"), scale, row, text
    )
    tuning = tuning_of(of_scale(spec, "tuning", scale), images) if "tuning" in spec.data else None
    spec.finish()
    model = resolve_model(role.model, scale.checkpoints)
    sampler = scale.sampler(row.sampler)
    student = None
    if tuning is not None:
        student = StudentRun(model, text, sampler, strategy, tuning, scale.device)
    run = PruningRun(
        model=model,
        prompt=text,
        sampler=sampler,
        strategy=strategy,
        features=scale.extractor(row.role),
        images=images.count,
        first_seed=images.first_seed,
        micro_batch=scale.batch_of(row.role),
        device=scale.device,
        student=student,
        lpips=(scale.checkpoints, load_lpips(folder=scale.checkpoints).digest) if lpips else None,
    )
    return Closeness(run, images, metrics)


def of_scale(spec: Section, key: str, scale: Scale) -> Section:
    """The mapping that a setting has for this scale."""
    found = Section(spec.take(key, Mapping), f"{spec.where}.{key}")
    return Section(found.take(scale.name, Mapping), f"{found.where}.{scale.name}")


def tuning_of(section: Section, images: Images) -> FineTuning:
    """Raises SkiptuneError for settings that do not fit, or latents that the images begin from too."""
    more = {key: section.take(key, int) for key in ("latents", "first_seed") if key in section.data}
    tuning = FineTuning(
        updates=section.take("updates", int),
        batch=section.take("batch", int),
        learning_rate=section.number("learning_rate"),
        decay=section.choice("decay", DECAYS),
        **more,
    )
    section.finish()
    learned, shown = tuning.seeds, images.seeds
    if max(learned.start, shown.start) < min(learned.stop, shown.stop):
        raise SkiptuneError(
            f"{section.where}: the student learns from seeds {learned[0]} to {learned[-1]}, images are of "
            f"{shown[0]} to {shown[-1]}: give the images others"
        )
    return tuning


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
