"""What the skip-step loss costs: a step of training with it against one with DDPM's loss, in pairs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from experiments.benchmarks.timing import made_on
from experiments.s2dm.step_cost import LOSSES, step_costs
from skiptune.runtime.provenance import provenance
from skiptune.runtime.workers import one_thread

AIM = 1.02  # of the time of plain training
FULL_SIZE_BATCH, FULL_SIZE_REPEATS = {"cpu": 4, "cuda": 128}, 5


def benchmark_training(
    desk: Mapping[str, Mapping[str, Any]],
    full_size: Mapping[str, Mapping[str, Any]],
    device: torch.device,
    batch: int,
    repeats: int,
    precision: str,
    compiled: Sequence[bool],
) -> dict[str, Any]:
    """A plain report with its provenance; on the CPU one thread, as a worker of a training has.

    Args:
        desk, full_size: descriptions of networks by name; of the latter there are few steps on a small batch
            where there is no GPU.
        compiled: for every value the desk networks are trained, compiled or not; the full-size ones are not.
    """
    jobs = [(name, network, batch, repeats, flag) for flag in compiled for name, network in desk.items()]
    many = repeats if device.type == "cuda" else min(repeats, FULL_SIZE_REPEATS)
    jobs += [(name, net, FULL_SIZE_BATCH[device.type], many, False) for name, net in full_size.items()]
    networks = []
    with one_thread():
        for name, network, images, steps, flag in jobs:
            found = step_costs(network, images, steps, device, precision, flag)
            networks.append(
                {
                    "network": name,
                    "batch": images,
                    "repeats": steps,
                    "compiled": flag,
                    "seconds": {loss: statistics.median(found.timings.seconds[loss]) for loss in LOSSES},
                    "time": overhead(found.timings.seconds),
                    "bytes": dict(found.memory),
                }
            )
    return {
        "device": device.type,
        "precision": precision,
        "networks": networks,
        "provenance": provenance(device),
    }


def overhead(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Time of a skip step over a plain one: the median of the pairs, and the quarters that enclose half."""
    pairs = [b / a for a, b in zip(seconds["plain"], seconds["skip_step"], strict=True)]
    if len(pairs) < 2:
        return {"median": pairs[0], "lower": pairs[0], "upper": pairs[0]}
    lower, median, upper = statistics.quantiles(pairs, n=4, method="inclusive")
    return {"median": median, "lower": lower, "upper": upper}


def render_training(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    threads = ", one thread" if report["device"] == "cpu" else ""
    lines = [
        "# Training step with the skip-step loss",
        "",
        f"{made_on(report['provenance'], threads)}; {report['precision']}. Steps of both losses in turn, "
        "with equal images, times and noise, from the images on the device to the averaged weights; of the "
        "paired ratios the median [lower, upper quartile].",
        "",
        "| network | batch | steps of each | compiled | DDPM, s | S²-DM, s | time, S²-DM over DDPM | "
        "DDPM, MB | S²-DM, MB | memory |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in report["networks"]:
        plain, skip = (one["bytes"][loss] / 1e6 for loss in LOSSES)
        time, seconds = one["time"], one["seconds"]
        compiled = "yes" if one["compiled"] else "no"
        lines.append(
            f"| {one['network']} | {one['batch']} | {one['repeats']} | {compiled} | "
            f"{seconds['plain']:.4f} | {seconds['skip_step']:.4f} | "
            f"{time['median']:.3f} [{time['lower']:.3f}, {time['upper']:.3f}] | "
            f"{plain:.2f} | {skip:.2f} | {skip / plain:.4f} |"
        )
    met = [one for one in report["networks"] if one["time"]["median"] <= AIM]
    counted = (
        "the peak of what torch allocates"
        if report["device"] == "cuda"
        else "weights, gradients, Adam's moments, averaged weights and all that the forward pass saves for "
        "the backward pass, not compiled"
    )
    lines += [
        "",
        f"Aim: at most {AIM} of the time of plain training; met by the median in {len(met)} of "
        f"{len(report['networks'])} (the paper pays 1.24 and 1.17). Memory: {counted}.",
    ]
    return "\n".join(lines) + "\n"
