"""All metrics of images or features that any program made, against a reference, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError, did_you_mean
from skiptune.evaluation.extractors import CHECKPOINTS
from skiptune.evaluation.features import FeatureSet
from skiptune.evaluation.frechet import SYMMETRIC_ROOT, ReferenceStatistics
from skiptune.evaluation.metrics import (
    GROUPS,
    METRICS,
    Reference,
    check_metrics,
    compute_metrics,
    expand,
    get_metric,
)
from skiptune.evaluation.parallel import compute_with_workers
from skiptune.evaluation.protocols import ROUNDING, Protocol, get_protocol, resize_rule
from skiptune.evaluation.sources import ImageSource, PairDistances, PromptScores, complete, read_prompts
from skiptune.evaluation.sources.arrays import NPZ
from skiptune.evaluation.sources.choice import Given, Place, given_reference, given_sample
from skiptune.evaluation.sources.reader import Reader
from skiptune.evaluation.statistics import LowRankGaussian
from skiptune.runtime.distributed import world
from skiptune.runtime.provenance import device
from skiptune.runtime.store import RunStore

SCORES = {"lpips": True, "hps_v2": False}  # of single images -> whether lower is better
ALONE = {"is", "accuracy", "hps_v2"}  # they need no reference
OPTIONAL = (
    *("generated", "reference", "features", "reference_features", "prompts", "extractor_weights"),
    *("lpips_weights", "hps_weights"),
)
PLACES = (*OPTIONAL, "checkpoints", "data", "outputs")
NAMES = ("protocol", "extractor", "lpips_backbone", "device")
NO_REFERENCE = Reference(LowRankGaussian(torch.zeros(0), torch.zeros(0, 0)))
DIVIDED = 5_000  # images from which on the work of comparing them is divided over the workers


@dataclass(frozen=True)
class Evaluation:
    """What is compared with what, by which metrics and protocol.

    A program that uses it with more than one worker needs its ``if __name__ == "__main__"``.

    Attributes:
        generated: a folder or zip of pictures, an npz with an array [N, H, W, C] of uint8, or the name of a
            data set; in its place `features`, a file of ready arrays (see ``read_features``).
        reference: likewise, or a file of statistics (see ``read_reference``); or `reference_features`.
            Inception Score, accuracy and HPS v2 need none.
        images, reference_images: the first so many of them; None: all.
        class_folders: the sub-folders of a folder are its classes, for `accuracy`.
        prompts: those of the images, for `hps_v2` (see ``read_prompts``).
        metrics: names of ``METRICS``, `precision_recall`, `lpips` (of images of equal names), `hps_v2`.
        protocol: name of one of ``PROTOCOLS``; `blocks`: how many equal blocks, None: the protocol's, or 1.
        extractor: the network of the features; `extractor_weights`: its file, None for the official one in
            `checkpoints`; `extractor_sha256`: whole or leading digits that the file must have.
        lpips_backbone, lpips_weights, hps_weights: the networks of these scores.
        data, outputs: folders of data sets, and of the features that are kept.
        workers: processes; `auto`: one a core.
        device: `auto`, `cpu` or `cuda`: the first GPU, under torchrun that of the local rank.

    Raises:
        SkiptuneError: settings that make no sense, before any work.
    """

    generated: Place | None = None
    reference: Place | None = None
    features: Place | None = None
    reference_features: Place | None = None
    images: int | None = None
    reference_images: int | None = None
    class_folders: bool = False
    prompts: Place | None = None
    metrics: Sequence[str] = ("fid",)
    protocol: str = "unbiased"
    blocks: int | None = None
    extractor: str = "inception_v3"
    extractor_weights: Place | None = None
    extractor_sha256: str | None = None
    lpips_backbone: str = "alex"
    lpips_weights: Place | None = None
    hps_weights: Place | None = None
    checkpoints: Place = CHECKPOINTS
    data: Place = "data"
    outputs: Place = "outputs"
    workers: int | Literal["auto"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        asked = self.metrics
        if not asked or not isinstance(asked, list | tuple) or not all(isinstance(x, str) for x in asked):
            raise SkiptuneError(f"metrics are {asked!r}: name at least one, metrics=[fid]")
        known = sorted({*METRICS, *GROUPS, *SCORES})
        for name in asked:
            if name not in known:
                guess = did_you_mean(name, known) or ";"
                raise SkiptuneError(f"unknown metric {name!r}{guess} choose one of {', '.join(known)}")
        for key in (*PLACES, *NAMES):
            value = getattr(self, key)
            if not isinstance(value, str | Path) and not (value is None and key in OPTIONAL):
                raise SkiptuneError(f"{key} is {value!r}: use a {'name' if key in NAMES else 'path'}")
        for key in ("blocks", "images", "reference_images"):
            value = getattr(self, key)
            if value is not None and (type(value) is not int or value < 1):
                raise SkiptuneError(f"{key} is {value!r}: use a whole number from 1, or null")
        if type(self.class_folders) is not bool:
            raise SkiptuneError(f"class_folders is {self.class_folders!r}: use true or false")
        if self.workers != "auto" and (type(self.workers) is not int or self.workers < 1):
            raise SkiptuneError(f"workers is {self.workers!r}: use a whole number from 1, or auto")
        _ = self._of_features
        self._how.check(self._block_count)
        _ = self._sample, self._real

    def result(self) -> dict[str, Any]:
        """The values and all that is needed to read them, as plain values.

        `metrics`: the reported values by name. From 2 blocks on `blocks`, the values of each, and
        `intervals`, 95% of their means where the protocol has them. `images`, `sources`: how many, of what.
        `protocol`: how it was measured, down to the digests of the networks. Features are kept in `outputs`:
        another metric extracts nothing again, a killed call goes on.

        Raises:
            SkiptuneError: images, features, a reference or a network that cannot be read, or do not fit.
        """
        reader = self._reader()
        blocks: dict[str, list[float]] = {}
        counts: dict[str, int | None] = {"generated": None, "reference": None}
        networks: dict[str, Any] = {}
        if self._of_features:
            blocks.update(self._compare(reader, counts))
        for name in self._of_images:
            values, networks[name] = self._score(name, reader)
            counts["generated"] = len(values)
            parts = FeatureSet(values[:, None], values[:, None][:, :0]).blocks(self._block_count)
            blocks[name] = [float(part.features.double().mean()) for part in parts]
        in_each = (counts["generated"] or 0) // self._block_count
        return {
            **reduced(self._how, blocks),
            "images": counts,
            "sources": [
                source.place if isinstance(source, ImageSource) else str(source)
                for source in (self._sample, self._real)
                if source is not None
            ],
            "protocol": {
                "name": self._how.name,
                "description": self._how.describe(self._block_count, in_each),
                "blocks": self._block_count,
                # Ready features do not say what they were made with.
                "extractor": reader.network().identity if reader.seen else None,
                "resize": resize_rule(self.extractor) if reader.seen else None,
                "rounding": ROUNDING if reader.seen or self._of_images else None,
                **networks,
            },
        }

    def _compare(self, reader: Reader, counts: dict[str, int | None]) -> dict[str, list[float]]:
        """Block values of the metrics of features; fills in the numbers of images."""
        wanted = [self._how.metric(name) for name in self._of_features]
        reference = NO_REFERENCE
        if self._real is not None:
            needed = any("reference_features" in get_metric(name).needs for name in wanted)
            inside, meant = self._images(self._real), self.reference is not None
            reference = reader.reference(self._real, self.reference_images, needed, inside, meant)
        has = {"labels", "logits"} | ({"reference_features"} if reference.features is not None else set())
        check_metrics(wanted, has)
        gaussian = reference.gaussian
        large = isinstance(gaussian, ReferenceStatistics) and len(gaussian.mean) > SYMMETRIC_ROOT
        if isinstance(gaussian, ReferenceStatistics) and large and "fid" in wanted:
            gaussian.keep_factor(Path(self.outputs) / "factors")
        sample = reader.features(self._sample, self.images)
        counts["generated"] = len(sample)
        counts["reference"] = len(reference.features) if reference.features is not None else None
        found = [compare(wanted, block, reference, reader) for block in sample.blocks(self._block_count)]
        return {name: [values[self._how.metric(name)] for values in found] for name in self._of_features}

    def _score(self, name: str, reader: Reader) -> tuple[Tensor, dict[str, str]]:
        """LPIPS or HPS v2 of every image [N], and the network behind it."""
        sample, real = self._sample, self._real
        if not isinstance(sample, ImageSource):
            raise SkiptuneError(f"{name} looks at images: give generated=DIR|ZIP|NPZ")
        run: PairDistances | PromptScores
        folder, on = Path(self.checkpoints), reader.device
        if name == "lpips":
            if isinstance(real, Path) and real.suffix == NPZ:
                real = self._images(real)
            if not isinstance(real, ImageSource):
                raise SkiptuneError("lpips compares images with images: give reference=DIR|ZIP|NPZ of them")
            weights = path_or_none(self.lpips_weights)
            run = PairDistances(sample, real, self.lpips_backbone, weights, folder, on)
            network = {"backbone": self.lpips_backbone}
        else:
            if self.prompts is None:
                raise SkiptuneError("hps_v2 needs the prompts of the images: prompts=FILE")
            texts = read_prompts(Path(self.prompts), sample)
            run = PromptScores(sample, texts, path_or_none(self.hps_weights), folder, on)
            network = {}
        count = sample.count(self.images)
        with reader.workers(count) as workers:
            values = complete(run, count, reader.store, workers, name)[name]
        return values, {**network, "sha256": run.network().digest}

    def _reader(self) -> Reader:
        return Reader(
            extractor=self.extractor,
            weights=path_or_none(self.extractor_weights),
            sha256=str(self.extractor_sha256) if self.extractor_sha256 else None,
            checkpoints=Path(self.checkpoints),
            store=RunStore(self.outputs),
            processes=self.workers,
            device=device(self.device).type,
        )

    def _images(self, place: Given) -> ImageSource:
        if isinstance(place, ImageSource):
            return place
        return ImageSource(str(place), Path(self.data), self.class_folders)

    @cached_property
    def _of_features(self) -> list[str]:
        return expand([name for name in self.metrics if name not in SCORES])

    @cached_property
    def _of_images(self) -> list[str]:
        return [name for name in SCORES if name in self.metrics]

    @cached_property
    def _how(self) -> Protocol:
        return get_protocol(self.protocol)

    @property
    def _block_count(self) -> int:
        return self.blocks or self._how.blocks or 1

    @cached_property
    def _sample(self) -> Given:
        return given_sample(self.features, self.generated, Path(self.data), self.class_folders)

    @cached_property
    def _real(self) -> Given | None:
        if not needs_reference(self.metrics):
            return None
        given = self.reference_features, self.reference
        return given_reference(*given, Path(self.data), self.class_folders)


def needs_reference(metrics: Any) -> bool:
    """Whether any of these metrics compares the images with others."""
    return not isinstance(metrics, Iterable) or not ALONE.issuperset(map(str, metrics))


def compare(
    names: Sequence[str], sample: FeatureSet, reference: Reference, reader: Reader
) -> dict[str, float]:
    """The metrics; those of many images that compare image with image, by all workers together."""
    real = reference.features
    if real is None or max(len(sample), len(real)) < DIVIDED or world().size > 1:
        return compute_metrics(names, sample, reference)
    divided = [name for name in names if "reference_features" in get_metric(name).needs]
    values = compute_metrics([name for name in names if name not in divided], sample, reference)
    if divided:
        with reader.workers(len(sample)) as workers:
            values |= compute_with_workers(divided, sample, real, workers)
    return values


def reduced(protocol: Protocol, blocks: dict[str, list[float]]) -> dict[str, Any]:
    """Reported values, their intervals where there are some, and the block values behind them."""
    values = {
        name: protocol.reduce(x, SCORES[name] if name in SCORES else get_metric(name).lower_is_better)
        for name, x in blocks.items()
    }
    report: dict[str, Any] = {"metrics": {name: value.value for name, value in values.items()}}
    if any(len(x) > 1 for x in blocks.values()):
        report["intervals"] = {
            name: [value.low, value.high] for name, value in values.items() if value.low is not None
        }
        report["blocks"] = blocks
    return report


def path_or_none(place: Place | None) -> Path | None:
    """The place as a path."""
    return Path(place) if place else None
