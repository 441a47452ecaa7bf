"""Measure one condition, or with ``-m`` a sweep of them; prints one line of JSON per run."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

import json
from pathlib import Path
from typing import Any

from experiments.measurement import SeedBlocks
from experiments.references import RealImages, default_reference_images
from experiments.samples import SampleMeasurement
from scripts.common import command, make_bench, open_tracker
from skiptune.checkpoints.models import resolve_model
from skiptune.evaluation.extractors import ExtractorRef
from skiptune.evaluation.metrics import expand
from skiptune.runtime.distributed import world
from skiptune.runtime.sampling import SamplingSettings


@command("measure")
def main(config: dict[str, Any]) -> None:
    model = config["model"]
    checkpoints = Path(str(config["checkpoints"]))
    with make_bench(config) as bench:
        features = ExtractorRef.resolve(config["features"], checkpoints)
        settings = SamplingSettings(
            model=resolve_model(model, checkpoints),
            sampler=config["sampler"],
            intervention=config["intervention"],
            features=features,
            micro_batch=config["micro_batch"],
            device=bench.device,
            noise_device=config["noise_device"],
        )
        images = config["reference_images"]
        real = RealImages(
            model["dataset"],
            default_reference_images(model["dataset"]) if images == "auto" else images,
            features,
            bench.device,
        )
        metrics = tuple(expand(metric_names(config["metrics"])))
        measurement = SampleMeasurement(settings, SeedBlocks.of(config["seeds"]), real, metrics)
        identity = bench.store.open(measurement.identity).id
        tracker = None
        if world().is_main:
            tracker = open_tracker(config["tracker"], identity, config, Path(str(config["outputs"])))
        bench.label = f"{model['name']} {config['sampler']['name']}"
        (result,) = bench.measure([measurement])
        floor = bench.floor(measurement)
    if tracker is None:
        return
    values = {name: result.value(name) for name in measurement.metrics}
    summary = {
        "record": result.record,
        "run": result.run,
        "model": model["name"],
        "sampler": dict(settings.resolved()["sampler"]),
        "intervention": settings.resolved()["intervention"],
        "nfe": result.nfe,
        "values": {
            name: {"value": v.value, "low": v.low, "high": v.high, "n": v.n} for name, v in values.items()
        },
        "images": len(measurement.blocks.seeds),
        "images_per_second": result.images_per_second,
    }
    if floor is not None:
        summary["floor"] = {name: floor.value(name).value for name in floor.blocks}
    tracker.log({name: value.value for name, value in values.items()}, step=len(measurement.blocks.seeds))
    tracker.summary({"nfe": result.nfe, **{name: value.value for name, value in values.items()}})
    tracker.finish()
    print(json.dumps(summary), flush=True)


def metric_names(metrics: Any) -> tuple[str, ...]:
    """``metrics=fid`` and ``metrics=[fid]`` mean the same."""
    return tuple(metrics) if isinstance(metrics, list) else (metrics,)


if __name__ == "__main__":
    main()
