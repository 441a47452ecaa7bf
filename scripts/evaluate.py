"""Metrics of images or features that other programs made: one line of JSON, all other talk on stderr."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from scripts.common import CONFIGS, INTERRUPTED, USER_ERROR, complain, plain, stop
from skiptune.data import DATASETS
from skiptune.errors import SkiptuneError
from skiptune.evaluation import FeatureSet, Reference, ReferenceStatistics
from skiptune.evaluation.extractors import EXTRACTORS, ExtractorRef, extractor_digest
from skiptune.evaluation.frechet import SYMMETRIC_ROOT
from skiptune.evaluation.metrics import check_metrics, compute_metrics, expand, get_metric
from skiptune.evaluation.parallel import compute_with_workers
from skiptune.evaluation.protocols import ROUNDING, Protocol, get_protocol, resize_rule
from skiptune.evaluation.sources import (
    ImageFeatures,
    ImageSource,
    PairDistances,
    PromptScores,
    array_names,
    complete,
    read_features,
    read_prompts,
    read_reference,
)
from skiptune.evaluation.sources.arrays import FEATURES, NPZ
from skiptune.evaluation.statistics import LowRankGaussian
from skiptune.runtime.distributed import join, tell_others, world
from skiptune.runtime.provenance import device
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.runtime.stopping import Stopped, stop_on_signals
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers, default_workers

SCORES = {"lpips": True, "hps_v2": False}  # of single images -> whether lower is better
ALONE = {"is", "accuracy", "hps_v2"}  # they need no reference
NO_REFERENCE = Reference(LowRankGaussian(torch.zeros(0), torch.zeros(0, 0)))
DIVIDED = 5_000  # images from which on the work of comparing them is divided over the workers


def main(arguments: Sequence[str]) -> None:
    """``key=value`` arguments over ``configs/evaluate.yaml``; for Hydra ``features`` would be a group."""
    base = OmegaConf.load(Path(CONFIGS) / "evaluate.yaml")
    OmegaConf.set_struct(base, True)
    if wrong := [argument for argument in arguments if argument.partition("=")[0] not in base]:
        raise SkiptuneError(f"{wrong[0]!r} is no setting: write key=value; keys: {', '.join(map(str, base))}")
    try:
        config = OmegaConf.merge(base, OmegaConf.from_dotlist(list(arguments)))
    except (OmegaConfBaseException, YAMLError) as error:
        raise SkiptuneError(str(error).splitlines()[0]) from error
    assert isinstance(config, DictConfig)
    join()
    with contextlib.redirect_stdout(sys.stderr):  # some libraries print
        result = Evaluation(plain(config)).result()
    if world().is_main:
        print(json.dumps(result))


class Evaluation:
    """One call: what is compared with what, by which metrics and protocol.

    Raises SkiptuneError for settings that make no sense, before any work.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        asked = config["metrics"]
        if not isinstance(asked, list) or not asked:
            raise SkiptuneError("no metrics given: name at least one, metrics=[fid]")
        self.metrics = expand([str(name) for name in asked if name not in SCORES])
        self.scores = [name for name in SCORES if name in asked]
        self.protocol = get_protocol(str(config["protocol"]))
        self.blocks = config["blocks"] or self.protocol.blocks or 1
        if type(self.blocks) is not int:
            raise SkiptuneError(f"blocks is {self.blocks!r}: use a whole number")
        self.protocol.check(self.blocks)
        self.checkpoints, self.outputs = Path(config["checkpoints"]), Path(config["outputs"])
        self.store, self.device = RunStore(self.outputs), device(config["device"]).type
        self.sample = self.given("features", "generated")
        alone = ALONE.issuperset([*self.metrics, *self.scores])
        self.real = None if alone else self.given("reference_features", "reference")
        self.extracted = False

    def result(self) -> dict[str, Any]:
        """The values and all that is needed to read them, as plain values."""
        blocks: dict[str, list[float]] = {}
        counts: dict[str, int | None] = {"generated": None, "reference": None}
        networks: dict[str, Any] = {}
        if self.metrics:
            blocks.update(self.compute(counts))
        for name in self.scores:
            values, networks[name] = self.score(name)
            counts["generated"] = len(values)
            parts = FeatureSet(values[:, None], values[:, None][:, :0]).blocks(self.blocks)
            blocks[name] = [float(part.features.double().mean()) for part in parts]
        return {
            **reduced(self.protocol, blocks),
            "images": counts,
            "sources": [str(place) for place in (self.place(self.sample), self.place(self.real)) if place],
            "protocol": {
                "name": self.protocol.name,
                "description": self.protocol.describe(self.blocks, (counts["generated"] or 0) // self.blocks),
                "blocks": self.blocks,
                # Ready features do not say what they were made with.
                "extractor": self.extractor().identity if self.extracted else None,
                "resize": resize_rule(self.extractor().name) if self.extracted else None,
                "rounding": ROUNDING if self.extracted or self.scores else None,
                **networks,
            },
        }

    def compute(self, counts: dict[str, int | None]) -> dict[str, list[float]]:
        """Block values of the metrics of features; fills in the numbers of images."""
        reference = NO_REFERENCE if self.real is None else self.reference(self.real)
        available = {"labels", "logits"} | (
            {"reference_features"} if reference.features is not None else set()
        )
        wanted = [self.protocol.metric(name) for name in self.metrics]
        check_metrics(wanted, available)
        gaussian = reference.gaussian
        if (
            isinstance(gaussian, ReferenceStatistics)
            and len(gaussian.mean) > SYMMETRIC_ROOT
            and "fid" in wanted
        ):
            gaussian.keep_factor(self.outputs / "factors")
        sample = self.sample
        features = (
            read_features(sample)
            if isinstance(sample, Path)
            else self.features(sample, self.config["images"])
        )
        counts["generated"] = len(features)
        counts["reference"] = len(reference.features) if reference.features is not None else None
        values: dict[str, list[float]] = {name: [] for name in self.metrics}
        for block in features.blocks(self.blocks):
            found = self.values(wanted, block, reference)
            for name in self.metrics:
                values[name].append(found[self.protocol.metric(name)])
        return values

    def values(self, names: list[str], sample: FeatureSet, reference: Reference) -> dict[str, float]:
        """The metrics; those of many images that compare image with image, by all workers together."""
        real = reference.features
        alone, divided = names, list[str]()
        if real is not None and max(len(sample), len(real)) >= DIVIDED and world().size == 1:
            divided = [name for name in names if "reference_features" in get_metric(name).needs]
            alone = [name for name in names if name not in divided]
        values = compute_metrics(alone, sample, reference)
        if divided and real is not None:
            with self.workers(len(sample)) as workers:
                values |= compute_with_workers(divided, sample, real, workers)
        return values

    def reference(self, real: Path | ImageSource) -> Reference:
        """What is there of the reference: features, else statistics; both of ADM's batches."""
        if isinstance(real, ImageSource):
            return Reference.from_features(self.features(real, self.config["reference_images"]))
        names = array_names(real)
        if real.suffix == NPZ and self.config["reference"] and not {*FEATURES, "mu"} & set(names):
            return self.reference(self.images(real))
        reference = read_reference(real)
        lacks = reference.features is None and any(
            "reference_features" in get_metric(name).needs for name in self.metrics
        )
        if lacks and "arr_0" in names:
            features = self.features(self.images(real), self.config["reference_images"])
            return Reference(reference.gaussian, features)
        return reference

    def features(self, source: ImageSource, images: int | None) -> FeatureSet:
        """Features of the source's images, each extracted once."""
        count = source.count(images)
        self.extracted = True
        run = ImageFeatures(source, self.extractor(), self.device)
        with self.workers(count) as workers:
            return run.read(count, self.store, workers, f"features of {Path(source.place).name}")

    def score(self, name: str) -> tuple[Tensor, dict[str, str]]:
        """LPIPS or HPS v2 of every image [N], and the network behind it."""
        sample, real = self.sample, self.real
        if not isinstance(sample, ImageSource):
            raise SkiptuneError(f"{name} looks at images: give generated=DIR|ZIP|NPZ")
        run: PairDistances | PromptScores
        if name == "lpips":
            if isinstance(real, Path) and real.suffix == NPZ:
                real = self.images(real)
            if not isinstance(real, ImageSource):
                raise SkiptuneError("lpips compares images with images: give reference=DIR|ZIP|NPZ of them")
            backbone, weights = str(self.config["lpips_backbone"]), self.path("lpips_weights")
            run = PairDistances(sample, real, backbone, weights, self.checkpoints, self.device)
            network = {"backbone": backbone}
        else:
            if (prompts := self.path("prompts")) is None:
                raise SkiptuneError("hps_v2 needs the prompts of the images: prompts=FILE")
            texts = read_prompts(prompts, sample)
            run = PromptScores(sample, texts, self.path("hps_weights"), self.checkpoints, self.device)
            network = {}
        count = sample.count(self.config["images"])
        with self.workers(count) as workers:
            values = complete(run, count, self.store, workers, name)[name]
        return values, {**network, "sha256": run.network().digest}

    def extractor(self) -> ExtractorRef:
        """The extractor's name, digest and file. Raises SkiptuneError if it is missing or another."""
        name, sha256 = str(self.config["extractor"]), self.config["extractor_sha256"]
        weights = self.path("extractor_weights")
        if name not in EXTRACTORS:
            return ExtractorRef(name, extractor_digest(name, weights=weights))
        found = extractor_digest(name, self.checkpoints, weights=weights, sha256=sha256 and str(sha256))
        return ExtractorRef(name, found, weights or self.checkpoints / EXTRACTORS[name].weights.file)

    def workers(self, images: int) -> Workers:
        """As many processes as cores; one for a single chunk, for a GPU, or where torchrun makes them."""
        count = self.config["workers"]
        if count == "auto":
            single = self.device == "cuda" or world().size > 1
            count = 1 if single else min(default_workers(), -(-images // CHUNK))
        if type(count) is not int:
            raise SkiptuneError(f"workers is {count!r}; give a number or auto")
        return Workers(count)

    def given(self, arrays: str, images: str) -> Path | ImageSource:
        """The one of the two settings that is given: a file of arrays, or images. Raises SkiptuneError."""
        places = [str(self.config[key]) for key in (arrays, images) if self.config[key]]
        if len(places) != 1:
            raise SkiptuneError(f"give {arrays}=FILE.npz or {images}=DIR|ZIP|NPZ, one of the two")
        path = Path(places[0])
        if path.exists():
            pictures = path.is_dir() or path.suffix == ".zip" or images == "generated"
            return self.images(path) if self.config[images] and pictures else path
        if self.config[images] and places[0] in DATASETS:
            return self.images(path)
        if images == "reference" and (file := self.official(places[0])):
            return file
        raise SkiptuneError(f"{path} does not exist")

    def official(self, name: str) -> Path | None:
        """The file of a reference in configs/checkpoint. Raises SkiptuneError if it is not there yet."""
        entry = Path(CONFIGS) / "checkpoint" / f"{name}.yaml"
        if Path(name).name != name or not entry.is_file():
            return None
        settings = yaml.safe_load(entry.read_text())
        if settings["role"] != "reference":
            raise SkiptuneError(f"{name} is no reference, it is a {settings['role']}")
        if not (file := self.checkpoints / settings["file"]).is_file():
            raise SkiptuneError(f"{file} is missing, get it with: python scripts/download.py {name}")
        return file

    def images(self, place: Path) -> ImageSource:
        return ImageSource(str(place), Path(self.config["data"]), bool(self.config["class_folders"]))

    def path(self, key: str) -> Path | None:
        return Path(str(self.config[key])) if self.config[key] else None

    @staticmethod
    def place(source: Path | ImageSource | None) -> str | None:
        if source is None:
            return None
        return source.place if isinstance(source, ImageSource) else str(source)


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


if __name__ == "__main__":
    stop_on_signals()
    try:
        main(sys.argv[1:])
    except (SkiptuneError, OSError) as error:
        tell_others(error)
        complain(error)
        raise SystemExit(USER_ERROR) from None
    except Stopped as error:
        stop(error)
    except KeyboardInterrupt:
        complain("stopped; what was extracted is kept, the same command goes on from there", "")
        raise SystemExit(INTERRUPTED) from None
