"""What tables need before they can be made: images, GPU-hours, files, packages. Nothing is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.importance_probe.prompts import Source
from experiments.learned import coefficients_name, how_to_learn
from experiments.registry import kind_of
from experiments.scale import Scale, named, suffixed
from experiments.tables.config import TableConfig
from experiments.wanted import seeded
from skiptune.evaluation.perceptual import BACKBONES

# An assumption about one data-centre GPU in half precision, stated wherever it is used.
SUSTAINED_TFLOPS = 60.0
LPIPS = BACKBONES["alex"]
# Modules beyond those of every installation, by the kind of a model or of features.
PACKAGES = {
    "inception": ("torch_fidelity",),
    "diffusers": ("diffusers", "transformers"),
    "clip": ("open_clip",),
    "hps_v2": ("open_clip",),
    "lpips": ("lpips",),
}


@dataclass(frozen=True)
class RowNeeds:
    """What one row takes: images, network evaluations per image, and operations.

    Attributes:
        gflop: of all images, from the model's operation count; 0 for one that gives none.
    """

    label: str
    model: str
    images: int
    nfe: float
    gflop: float

    @property
    def gpu_hours(self) -> float:
        """At ``SUSTAINED_TFLOPS``."""
        return hours(self.gflop)


@dataclass(frozen=True)
class Need:
    """Where a file comes from: its address, or words in place of one; ``made_here``: by our own training."""

    origin: str
    made_here: bool = False


@dataclass(frozen=True)
class Needs:
    """What one table needs.

    Attributes:
        files: by name in the checkpoints folder.
        packages: module names.
    """

    rows: tuple[RowNeeds, ...]
    files: Mapping[str, Need]
    packages: frozenset[str]

    @property
    def images(self) -> int:
        return sum(row.images for row in self.rows)

    @property
    def gpu_hours(self) -> float:
        return sum(row.gpu_hours for row in self.rows)


def needs_of(config: TableConfig, scale: Scale) -> Needs:
    """What making the table at that scale takes.

    Raises:
        SkiptuneError: an unknown kind of measurement, role or sampler.
    """
    scale = seeded(scale, config)
    rows = []
    files: dict[str, Need] = {}
    packages: set[str] = set()
    for row in config.rows_at(scale.name):
        role = scale.role(row.role)
        tuned = config.tuning.grids.get(row.id, ()) if config.tuning else ()
        searched = len({*tuned, 1.0}) if tuned else 0  # a search looks at the untouched network too
        kind = kind_of(row)
        reported = len(scale.report.seeds) if kind.images is None else kind.images(scale, row)
        images = reported + searched * len(scale.select.seeds)
        nfe = kind.evaluations(scale, row)
        gflop = images * nfe * role.model.get("gflop_per_nfe", 0.0)
        rows.append(RowNeeds(row.label, role.model["name"], images, nfe, gflop))
        other = row.measure.get("features")
        features = role.features if other is None else named(other, scale.extractors, "features")
        seen = [features]
        if row.measure["kind"] == "denoising_loss":
            seen = [named(name, scale.extractors, "features") for name in role.loss_features]
        trained = [suffixed(role.model, suffix) for suffix in role.suffixes]
        read = [*(trained if kind.weights else []), *(seen if kind.features else [])]
        if kind.scorer and role.scorer is not None:
            read.append(role.scorer)
        files |= _files(read)
        if row.measure.get("distance", {}).get(scale.name) == "lpips":
            files[LPIPS.file] = Need(f"get it with: python scripts/download.py {LPIPS.entry}")
            packages.add("lpips")
        if kind.prompts:
            source = Source.of(scale)
            files |= {name: Need(f"get it with: {source.command}") for name in source.files.values()}
        if kind.features and role.reference:
            files[role.reference] = Need(role.reference_url or "no address")
        if "learned" in row.intervention and role.model["kind"] != "desk":
            learned = coefficients_name(row.intervention["learned"], role)
            files[f"{learned}.safetensors"] = Need(how_to_learn(learned, role), made_here=True)
        packages |= {name for part in read for name in PACKAGES.get(part.get("kind", ""), ())}
    return Needs(tuple(rows), files, frozenset(packages))


def hours(gflop: float) -> float:
    """Hours at ``SUSTAINED_TFLOPS``."""
    return gflop / 1e3 / SUSTAINED_TFLOPS / 3600


def _files(parts: Sequence[Mapping[str, Any]]) -> dict[str, Need]:
    """Every file that these configurations of models and features name."""
    found = {}
    for values in parts:
        for key, address in (("file", "url"), ("autoencoder_file", "autoencoder_url")):
            if values.get(key):
                origin = str(values.get(address) or "no address")
                found[values[key]] = Need(origin, made_here=values["kind"] == "trained")
    return found
