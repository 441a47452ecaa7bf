"""The benchmark of the metrics, in parts that are measured one by one and joined in one report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from experiments.benchmarks.metric_cost import CURVE_SIZES, CURVES, growth
from experiments.benchmarks.metrics import (
    Contests,
    Setup,
    benchmark_fid,
    benchmark_five,
    benchmark_images,
    benchmark_kid,
    benchmark_precision_recall,
)
from experiments.benchmarks.sampling import spread
from experiments.benchmarks.timing import made_on
from skiptune.runtime.provenance import provenance

CONTESTS: dict[str, Callable[[Setup], Contests]] = {
    "fid": benchmark_fid,
    "precision_recall": benchmark_precision_recall,
    "kid": benchmark_kid,
    "five": benchmark_five,
    "images": benchmark_images,
}
PARTS = (*CONTESTS, *(f"growth_{curve}" for curve in CURVES))
SMALL = Setup(dimension=16, images=60, few=12, pictures=10, repeats=1)  # warms libraries up, unmeasured


def measure_part(part: str, setup: Setup, sizes: Sequence[int] = CURVE_SIZES) -> dict[str, Any]:
    """One part with where, when and beside how much other work (load of the machine) it was measured."""
    before = os.getloadavg()[0]
    found: dict[str, Any] = {"provenance": provenance("cpu"), "threads": torch.get_num_threads()}
    if part in CONTESTS:
        CONTESTS[part](SMALL)
        found |= {"setup": asdict(setup), "contests": CONTESTS[part](setup)}
    else:
        found["growth"] = growth(part.removeprefix("growth_"), sizes, setup.dimension)
        found["dimension"] = setup.dimension
    return found | {"load": [before, os.getloadavg()[0]]}


def growth_curves(report: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """The measured points by curve."""
    return {
        part.removeprefix("growth_"): found["growth"] for part, found in report.items() if "growth" in found
    }


def render_metrics(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["# Metric arithmetic", ""]
    contests = [part for part in CONTESTS if part in report]
    if contests:
        lines += [
            "Same features, same process; median of the alternating repeats, ratios of the paired repeats "
            "[lowest, highest]. `cached`: with the reference's factor, as for all rows but the first.",
            "",
            "| what | who | seconds | value | times as fast as | added GiB |",
            "| --- | --- | ---: | ---: | --- | ---: |",
        ]
        for part in contests:
            lines += [row for name, found in report[part]["contests"].items() for row in _rows(name, found)]
        lines.append("")
    if curves := growth_curves(report):
        lines += [
            "Cost as the number of images grows, each point in a process of its own: seconds (added GiB).",
            "",
            *_growth_table(curves),
            "",
        ]
    lines += [
        "| part | where and when | repeats | load of the machine before and after |",
        "| --- | --- | ---: | --- |",
    ]
    for part in PARTS:
        if part in report:
            found = report[part]
            where = made_on(found["provenance"], f", {found['threads']} thread(s)")
            repeats = found.get("setup", {}).get("repeats", 1)
            load = " and ".join(f"{value:.1f}" for value in found["load"])
            lines.append(f"| {part} | {where}; {found['provenance']['started']} | {repeats} | {load} |")
    return "\n".join(lines) + "\n"


def _rows(name: str, found: Mapping[str, Any]) -> list[str]:
    rows = []
    for who, seconds in found["seconds"].items():
        ratios = [
            f"{peer} {spread(found['ratios'][f'{who} against {peer}'])}"
            for peer in found["seconds"]
            if f"{who} against {peer}" in found["ratios"]
        ]
        memory = found.get("memory_gib", {}).get(who)
        rows.append(
            f"| {name} | {who} | {seconds:.3g} | {found['values'][who]:.9g} | {'; '.join(ratios)} | "
            f"{'' if memory is None else f'{memory:.2f}'} |"
        )
    return rows


def _growth_table(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    sizes = sorted({int(point["images"]) for points in curves.values() for point in points})
    rows = ["| metric | " + " | ".join(map(str, sizes)) + " |", "| --- |" + " ---: |" * len(sizes)]
    for curve, points in curves.items():
        cells = {point["images"]: f"{point['seconds']:.3g} ({point['gib']:.2f})" for point in points}
        rows.append(f"| {CURVES[curve][0]} | " + " | ".join(cells.get(size, "") for size in sizes) + " |")
    return rows
