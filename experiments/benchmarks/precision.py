"""What the precision of the network, and compiling it, do to FID and speed, on equal seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from experiments.bench import Bench
from experiments.benchmarks.timing import made_on
from experiments.samples import SampleMeasurement
from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import paired_difference_interval
from skiptune.runtime.provenance import provenance


def benchmark_precision(
    measurement: SampleMeasurement, precisions: Sequence[str], bench: Bench
) -> dict[str, Any]:
    """FID by block in every precision and in fp32; how far the kept 8-bit images are from those of fp32.

    ``fp32+compile`` and the like are compiled.
    """
    conditions = {name: computed(measurement, name) for name in dict.fromkeys(("fp32", *precisions))}
    report: dict[str, Any] = {}
    exact: Tensor | None = None
    for precision, condition in conditions.items():
        (result,) = bench.measure([condition])
        images = condition.samples(bench.store).images.to(torch.int16)
        exact = images if exact is None else exact  # fp32 comes first
        distance = (images - exact).abs()
        report[precision] = {
            "fid": result.blocks["fid"],
            "images_per_second": result.images_per_second,
            "levels_mean": float(distance.float().mean()),
            "levels_most": int(distance.max()),
        }
    return {"device": bench.device, "precisions": report, "provenance": provenance(bench.device)}


def computed(measurement: SampleMeasurement, name: str) -> SampleMeasurement:
    """The measurement in a precision, compiled if its name ends so. Raises SkiptuneError for another end."""
    precision, plus, compiled = name.partition("+")
    if plus and compiled != "compile":
        raise SkiptuneError(f"precisions has {name!r}; after + stands compile")
    settings = replace(measurement.settings, precision=precision, compile=bool(plus))
    return replace(measurement, settings=settings)


def render_precision(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    exact = report["precisions"]["fp32"]["fid"]
    lines = [
        "# Precision of the network while sampling, and compiling its blocks",
        "",
        f"{made_on(report['provenance'])}; {len(exact)} blocks of equal seeds. The difference of FID to fp32 "
        "is paired by block, with its 95% interval; levels: how far the kept images are from those of fp32, "
        "of 255. Images a second of compiled blocks hold the time of compiling them.",
        "",
        "| precision | FID | difference | levels, mean | most | images/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for precision, one in report["precisions"].items():
        gap = paired_difference_interval(one["fid"], exact)
        apart = "" if precision == "fp32" else f"{gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
        speed = "" if one["images_per_second"] is None else f"{one['images_per_second']:.1f}"
        cells = (
            precision,
            f"{sum(one['fid']) / len(one['fid']):.2f}",
            apart,
            f"{one['levels_mean']:.3f}",
            str(one["levels_most"]),
            speed,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
