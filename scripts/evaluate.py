"""Metrics of images or features that other programs made: one line of JSON, all other talk on stderr."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from scripts.common import CONFIGS, USER_ERROR, complain, plain
from skiptune.errors import SkiptuneError
from skiptune.evaluation import FeatureSet, Reference, load_extractor
from skiptune.evaluation.metrics import check_metrics, compute_metrics
from skiptune.evaluation.sources import image_batches, read_features, read_reference
from skiptune.runtime.progress import Progress
from skiptune.runtime.provenance import device

BATCH = 64  # pictures in memory at a time


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
    evaluate(plain(config))


def evaluate(config: dict[str, Any]) -> None:
    """Compute the metrics and print them."""
    metrics = config["metrics"]
    if not isinstance(metrics, list) or not metrics:
        raise SkiptuneError("no metrics given: name at least one, metrics=[fid]")
    check_metrics(metrics, {"labels", "logits", "reference_features"})  # unknown names, before any work
    sample = one_of(config, "features", "generated")
    real = one_of(config, "reference_features", "reference")
    reference = reference_of(real, config)
    available = {"labels", "logits"} | ({"reference_features"} if reference.features is not None else set())
    check_metrics(metrics, available)
    features = read_features(sample) if config["features"] else extract(sample, config)
    values = compute_metrics(metrics, features, reference)
    images = {"generated": len(features), "reference": reference.features and len(reference.features)}
    print(json.dumps({"metrics": values, "images": images, "sources": [str(sample), str(real)]}))


def one_of(config: dict[str, Any], arrays: str, images: str) -> Path:
    """The path that is given. Raises SkiptuneError for none, both, or nothing there."""
    given = [config[key] for key in (arrays, images) if config[key]]
    if len(given) != 1:
        raise SkiptuneError(f"give {arrays}=FILE.npz or {images}=DIR|ZIP|NPZ, one of the two")
    path = Path(str(given[0]))
    if not path.exists():
        raise SkiptuneError(f"{path} does not exist")
    return path


def reference_of(path: Path, config: dict[str, Any]) -> Reference:
    """The reference: arrays as they are, pictures through the extractor."""
    if config["reference_features"]:
        return Reference.from_features(read_features(path))
    if path.suffix == ".npz":
        try:
            return read_reference(path)
        except SkiptuneError as error:
            if "neither 'features' nor" not in str(error):
                raise
    return Reference.from_features(extract(path, config))


def extract(path: Path, config: dict[str, Any]) -> FeatureSet:
    """Features of all images, in one pass."""
    extractor = load_extractor(config["extractor"], device=device(config["device"]))
    parts = []
    with Progress(0, label=f"features of {path.name}") as progress:
        for batch in image_batches(path, BATCH):
            parts.append(FeatureSet(**extractor(batch)))
            progress.advance(len(batch))
    return FeatureSet.cat(parts)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SkiptuneError as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
