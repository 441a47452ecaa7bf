"""The batched probe against one-by-one evaluation, with equal decisions; the time that skipping saves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.one_by_one import OneByOne
from experiments.benchmarks.sampling import spread
from experiments.benchmarks.timing import alternate, made_on
from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.importance import ProbeSettings, ProbeState, run_probe
from skiptune.interventions import AttentionPruning, find_transformer_blocks
from skiptune.runtime.provenance import provenance
from skiptune.runtime.workers import one_thread
from skiptune.samplers import Sampler, initial_noise, sample

AIM = 3.0  # times the decisions per second of one-by-one evaluation


def benchmark_probing(
    name: str,
    denoiser: Denoiser,
    sampler: Sampler,
    readings: Mapping[str, ProbeSettings],
    images: int,
    repeats: int,
) -> dict[str, Any]:
    """Both parts for a denoiser of a prompt, on one thread.

    Args:
        name: of the model, for the report.
        readings: settings of the probes that are timed, by name; each probes one image, as the paper does.
        images: drawn at once where sampling is timed.

    Raises:
        SkiptuneError: the two ways of probing decide differently.
    """
    with one_thread():
        probing = {key: probed(denoiser, sampler, settings, repeats) for key, settings in readings.items()}
        sampling = pruned(denoiser, sampler, images, repeats)
    return {
        "model": name,
        "steps": sampler.num_steps,
        "repeats": repeats,
        "images": images,
        "probing": probing,
        "sampling": sampling,
        "provenance": provenance("cpu"),
    }


def probed(denoiser: Denoiser, sampler: Sampler, settings: ProbeSettings, repeats: int) -> dict[str, Any]:
    """Decisions per second of both ways, the ratios of the pairs, and how often the network is called."""
    noise = initial_noise(range(1), denoiser.image_shape)[0]
    calls: dict[str, int] = {}

    def counted(way: str, run: Callable[[], ProbeState]) -> ProbeState:
        denoiser.nfe = 0
        state = run()
        calls[way] = denoiser.nfe
        return state

    ways: dict[str, Callable[[], ProbeState]] = {
        "batched": functools.partial(run_probe, denoiser, sampler, noise, settings),
        "one by one": OneByOne(denoiser, sampler, noise, settings).run,
    }
    contestants = {way: functools.partial(counted, way, run) for way, run in ways.items()}
    decisions = settings.runs * settings.iterations * sampler.num_steps * settings.candidates
    timings = alternate(contestants, decisions, repeats, warm_up=False)
    batched, plain = timings.outcomes["batched"], timings.outcomes["one by one"]
    if not (
        torch.equal(batched.accepted, plain.accepted)
        and torch.allclose(batched.weights, plain.weights, rtol=0, atol=1e-12)
        and torch.allclose(batched.thresholds, plain.thresholds, rtol=0, atol=1e-12)
    ):
        differing = int((batched.accepted != plain.accepted).sum())
        raise SkiptuneError(f"batched and one-by-one probe decide differently at {differing} places")
    return {
        "decisions": decisions,
        "accepted": float(plain.accepted.double().mean()),
        "calls": calls,
        "per_second": {way: timings.rate(way) for way in ways},
        "ratio": timings.ratio("batched", "one by one"),
    }


def pruned(denoiser: Denoiser, sampler: Sampler, images: int, repeats: int) -> dict[str, Any]:
    """Times as fast as the whole network without one block, a symmetric pair, or all, at every step."""
    blocks = find_transformer_blocks(denoiser)
    numbers = [block.number for block in blocks]
    pairs = [(a, b) for a, b in zip(numbers, reversed(numbers), strict=True) if a < b]
    without = [(), *((number,) for number in numbers), *pairs, tuple(numbers)]
    noise = initial_noise(range(images), denoiser.image_shape)[0]
    runs = {key(skipped): functools.partial(drawn, denoiser, sampler, noise, skipped) for skipped in without}
    timings = alternate(runs, images, repeats)
    return {
        "images_per_second": timings.rate(key(())),
        "without": {
            key(skipped): {
                "computed": timings.outcomes[key(skipped)],
                "ratio": timings.ratio(key(skipped), key(())),
            }
            for skipped in without[1:]
        },
    }


def key(skipped: Sequence[int]) -> str:
    """The blocks' numbers, as a report names them."""
    return ", ".join(map(str, skipped)) or "none"


def drawn(denoiser: Denoiser, sampler: Sampler, noise: Tensor, skipped: Sequence[int]) -> float:
    """Sample without these blocks; the share of transformers that were computed."""
    blocks = find_transformer_blocks(denoiser)
    mask = torch.tensor([block.number in skipped for block in blocks])
    total = sampler.num_steps * len(noise) * sum(len(block.transformers) for block in blocks)
    with AttentionPruning(mask).attached_to(denoiser) as count:
        sample(sampler, denoiser, noise)
    return 1 - count.skipped / total


def render_probing(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "# The probe in batches, and the time that skipping saves",
        "",
        f"{made_on(report['provenance'], ', one thread')}; {report['model']}, {report['steps']} steps; "
        f"{report['repeats']} alternating repeats: median [lowest, highest] of the paired ratios.",
        "",
        "| reading of the probe | candidates | accepted steps | network calls, one by one | batched | "
        "candidates per second, one by one | batched | times as fast |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in report["probing"].items():
        calls, rate = one["calls"], one["per_second"]
        lines.append(
            f"| {name} | {one['decisions']} | {one['accepted']:.0%} | {calls['one by one']} | "
            f"{calls['batched']} | {rate['one by one']:.0f} | {rate['batched']:.0f} | "
            f"{spread(one['ratio'])} |"
        )
    met = sum(one["ratio"]["median"] >= AIM for one in report["probing"].values())
    lines += [
        "",
        "Both ways took the same decisions everywhere, which every run of this benchmark checks. One by one, "
        "the teacher and every candidate are a call on one image, as in the authors' program; a batched call "
        "holds the candidates of all runs that can be accepted.",
        f"Aim: at least {AIM:g} times as fast; met in {met} of {len(report['probing'])}.",
        "",
        f"## Sampling without blocks, {report['images']} images at once",
        "",
        f"The whole network: {report['sampling']['images_per_second']:.0f} images per second.",
        "",
        "| blocks skipped at every step | transformers computed | times as fast |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {one['computed']:.0%} | {spread(one['ratio'])} |"
            for name, one in report["sampling"]["without"].items()
        ),
    ]
    return "\n".join(lines) + "\n"
