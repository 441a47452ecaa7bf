"""Sampling speed: with and without Skip-Tuning, and against the official EDM sampler on the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.peer_edm import official_sampler
from experiments.benchmarks.timing import alternate, made_on
from skiptune.checkpoints.models import ModelRef
from skiptune.denoisers import Denoiser, build_denoiser
from skiptune.interventions import attach_intervention
from skiptune.runtime.generation import sample_images
from skiptune.runtime.networks import cached_model
from skiptune.runtime.provenance import provenance
from skiptune.runtime.workers import Workers, default_workers, one_thread
from skiptune.samplers import initial_noise, make_sampler, sample

SAMPLERS: dict[str, dict[str, Any]] = {
    "heun": {"name": "heun", "steps": 5},
    "unipc": {"name": "unipc", "steps": 9, "variant": "bh2"},
}
TUNED = {"name": "skip_tuning", "rho_bottom": 0.7}
UNTOUCHED = {"name": "none"}
EDM_BATCH = 64  # the default of EDM's generate.py


@dataclass(frozen=True)
class SampleBatches:
    """The sampling work of one worker process: these seeds in micro-batches, images thrown away."""

    model: ModelRef
    sampler: str
    intervention: str
    seeds: range
    micro_batch: int
    device: str

    def __call__(self) -> None:
        denoiser = cached_model(self.model, self.device)
        sampler = make_sampler(**SAMPLERS[self.sampler])
        intervention = TUNED if self.intervention == "tuned" else UNTOUCHED
        for start in range(0, len(self.seeds), self.micro_batch):
            batch = self.seeds[start : start + self.micro_batch]
            sample_images(denoiser, sampler, [intervention], batch)
        if self.device == "cuda":
            torch.cuda.synchronize()


def benchmark_desk(
    model: ModelRef, device: str, images: int, repeats: int, edm_repo: Path | None
) -> dict[str, Any]:
    """Desk network, the whole machine: our workers against EDM's one process with all threads."""
    workers = 1 if device == "cuda" else default_workers()
    micro_batch = images // workers if device == "cuda" else 125
    denoiser = cached_model(model, device)
    share = images // workers
    images = share * workers
    report: dict[str, Any] = {
        "model": model.name,
        "images": images,
        "workers": workers,
        "micro_batch": micro_batch,
    }
    with Workers(workers) as pool:

        def ours(sampler: str, intervention: str) -> Callable[[], object]:
            tasks = [
                SampleBatches(
                    model, sampler, intervention, range(i * share, (i + 1) * share), micro_batch, device
                )
                for i in range(workers)
            ]
            return lambda: pool.run(tasks)

        contestants = {f"{s} {i}": ours(s, i) for s in SAMPLERS for i in ("untouched", "tuned")}
        if edm_repo is not None:
            run = official_sampler(edm_repo, json.loads(model.description)["kwargs"], denoiser)
            contestants["edm heun"] = lambda: official_batches(run, denoiser, images)
        timings = alternate(contestants, images, repeats)
    report["images_per_second"] = {name: round(timings.rate(name), 2) for name in contestants}
    if edm_repo is not None:
        report["heun_against_edm"] = timings.ratio("heun untouched", "edm heun")
    report["hooks"] = benchmark_hooks(denoiser, device, repeats)
    return report


def official_batches(
    run: Callable[[Tensor, Tensor | None, int], Tensor], denoiser: Denoiser, images: int
) -> None:
    """EDM's work for the same seeds and labels, in its own batch size."""
    for start in range(0, images, EDM_BATCH):
        noise, labels = initial_noise(
            range(start, min(start + EDM_BATCH, images)), denoiser.image_shape, denoiser.num_classes
        )
        device = next(denoiser.parameters()).device
        condition = None if labels is None else F.one_hot(labels, denoiser.num_classes).float().to(device)
        run(noise.to(device), condition, SAMPLERS["heun"]["steps"])
    if device.type == "cuda":
        torch.cuda.synchronize()


def benchmark_hooks(denoiser: Denoiser, device: str, repeats: int) -> dict[str, Any]:
    """Cost of the attached hooks on one thread: time without over time with Skip-Tuning, in pairs."""

    def run(sampler: str, intervention: dict[str, Any]) -> Callable[[], object]:
        made = make_sampler(**SAMPLERS[sampler])

        def work() -> None:
            sample_images(denoiser, made, [intervention], range(125))
            if device == "cuda":
                torch.cuda.synchronize()

        return work

    contestants = {
        f"{s} {n}": run(s, i) for s in SAMPLERS for n, i in (("untouched", UNTOUCHED), ("tuned", TUNED))
    }
    with one_thread():
        timings = alternate(contestants, 125, 2 * repeats)
    return {s: {"tuned_against_untouched": timings.ratio(f"{s} tuned", f"{s} untouched")} for s in SAMPLERS}


def benchmark_full_size(
    kwargs: dict[str, Any], device: str, repeats: int, edm_repo: Path | None
) -> dict[str, Any]:
    """The ImageNet-64 ADM network with random weights, one process with all threads, few images and steps."""
    torch.manual_seed(0)
    denoiser = build_denoiser({"class": "EDMPrecond", "kwargs": kwargs}).eval().requires_grad_(False)
    for parameter in denoiser.parameters():
        if not parameter.any():  # zero-initialised layers would be no real work for a clever kernel
            parameter.normal_(std=0.02)
    denoiser = denoiser.to(device).to(memory_format=torch.channels_last)
    images, steps = (64, 5) if device == "cuda" else (2, 2)
    noise, labels = initial_noise(range(images), denoiser.image_shape, denoiser.num_classes)
    assert labels is not None
    noise, condition = noise.to(device), F.one_hot(labels, denoiser.num_classes).float().to(device)
    sampler = make_sampler("heun", steps=steps)

    def ours(intervention: dict[str, Any]) -> Callable[[], object]:
        def work() -> None:
            with torch.inference_mode(), attach_intervention(intervention, denoiser, sampler.sigmas.tolist()):
                sample(sampler, denoiser, noise.contiguous(memory_format=torch.channels_last), condition)
            if device == "cuda":
                torch.cuda.synchronize()

        return work

    contestants: dict[str, Callable[[], object]] = {"untouched": ours(UNTOUCHED), "tuned": ours(TUNED)}
    if edm_repo is not None:
        run = official_sampler(edm_repo, kwargs, denoiser)

        def official() -> None:
            run(noise, condition, steps)
            if device == "cuda":
                torch.cuda.synchronize()

        contestants["edm"] = official
    timings = alternate(contestants, images, repeats)
    report: dict[str, Any] = {
        "parameters": sum(p.numel() for p in denoiser.parameters()),
        "images": images,
        "nfe": 2 * steps - 1,
        "images_per_second": {name: round(timings.rate(name), 4) for name in contestants},
        "tuned_against_untouched": timings.ratio("tuned", "untouched"),
    }
    if edm_repo is not None:
        report["heun_against_edm"] = timings.ratio("untouched", "edm")
    return report


def benchmark_sampling(
    model: ModelRef,
    full_size: dict[str, Any] | None,
    device: str,
    images: int,
    repeats: int,
    edm_repo: Path | None,
) -> dict[str, Any]:
    """Both sizes, as a plain report with its provenance."""
    report: dict[str, Any] = {"repeats": repeats, "provenance": provenance(device)}
    report["desk"] = benchmark_desk(model, device, images, repeats, edm_repo)
    if full_size is not None:
        report["full_size"] = benchmark_full_size(full_size, device, repeats, edm_repo)
    return report


def render_sampling(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "# Sampling speed",
        "",
        f"{made_on(report['provenance'])}; median of {report['repeats']} alternating repeats "
        "[lowest, highest].",
        "",
        "| what | images/s | ratio |",
        "| --- | ---: | ---: |",
    ]
    for size, title in (("desk", "desk"), ("full_size", "full-size ADM, random weights")):
        part = report.get(size)
        if part is None:
            continue
        for name, rate in part["images_per_second"].items():
            lines.append(f"| {title}: {name} | {rate:g} | |")
        if "heun_against_edm" in part:
            lines.append(
                f"| {title}: Heun against NVlabs/edm, same weights | | {spread(part['heun_against_edm'])} |"
            )
        for name, hook in part.get("hooks", {}).items():
            ratio = spread(hook["tuned_against_untouched"])
            lines.append(f"| {title}: {name} with Skip-Tuning against without, one thread | | {ratio} |")
        if "tuned_against_untouched" in part:
            lines.append(
                f"| {title}: with Skip-Tuning against without | | {spread(part['tuned_against_untouched'])} |"
            )
    desk = report["desk"]
    lines += [
        "",
        f"Desk: {desk['model']}, {desk['images']} images, {desk['workers']} workers of one thread, "
        f"micro-batch {desk['micro_batch']}; NVlabs/edm runs in one process with all threads "
        f"and its default batch of {EDM_BATCH}.",
    ]
    return "\n".join(lines) + "\n"


def spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
