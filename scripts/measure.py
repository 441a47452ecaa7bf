"""Measure one condition, or with ``-m`` a sweep of them; prints one line of JSON per run."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__, "measure")  # before the imports that take seconds

import json
from typing import Any

from experiments.measurement import SeedBlocks
from experiments.samples import SampleMeasurement
from experiments.tracking.conditions import measured_run
from scripts.shared.common import check_tracking, command, make_bench, sampling_of, track
from scripts.shared.references import check_measurable, reference_of
from skiptune.evaluation.metrics import expand
from skiptune.runtime.distributed import world


@command("measure")
def main(config: dict[str, Any]) -> None:
    model = config["model"]
    check_measurable(config)
    with make_bench(config) as bench:
        settings = sampling_of(config, bench.device)
        real = reference_of(config, settings)
        metrics = tuple(expand(metric_names(config["metrics"])))
        measurement = SampleMeasurement(settings, SeedBlocks.of(config["seeds"]), real, metrics)
        if world().is_main:
            check_tracking(config)
        bench.label = f"{model['name']} {config['sampler']['name']}"
        (result,) = bench.measure([measurement])
        floor = bench.floor(measurement)
    if not world().is_main:
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
    track(config, [measured_run(result, values, settings.resolved(), bench.store)])
    print(json.dumps(summary), flush=True)


def metric_names(metrics: Any) -> tuple[str, ...]:
    """``metrics=fid`` and ``metrics=[fid]`` mean the same."""
    return tuple(metrics) if isinstance(metrics, list) else (metrics,)


if __name__ == "__main__":
    main()
