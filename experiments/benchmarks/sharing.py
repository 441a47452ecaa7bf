"""Searches that share work: time and network evaluations against separate runs, with equal bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.benchmarks.sampling import spread
from experiments.benchmarks.timing import alternate, made_on
from experiments.windows import with_window
from skiptune.denoisers import Denoiser
from skiptune.errors import SkiptuneError
from skiptune.runtime.provenance import provenance
from skiptune.runtime.together import sample_together
from skiptune.runtime.workers import one_thread
from skiptune.samplers import initial_noise, make_sampler

RHO = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
WINDOWS, WINDOW_STEPS = 13, 4

Conditions = Sequence[Mapping[str, Any]]


def searches() -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Name -> sampler and the interventions that are compared."""
    one_step = {"name": "consistency", "steps": 1}
    windowed = {"name": "unipc", "steps": WINDOWS * WINDOW_STEPS, "variant": "bh1"}
    window = {"name": "skip_tuning", "rho_bottom": 0.78, "rho_top": 1.0, "window_steps": WINDOW_STEPS}
    return {
        "one step, 10 values of ρ": (
            one_step,
            [{"name": "skip_tuning", "rho_bottom": rho, "rho_top": 1.0} for rho in RHO],
        ),
        "13 windows of 4 steps and the baseline": (
            windowed,
            [{"name": "none"}, *(with_window({**window, "window": i}, windowed) for i in range(WINDOWS))],
        ),
    }


def benchmark_sharing(models: Mapping[str, Denoiser], images: int, repeats: int) -> dict[str, Any]:
    """Both searches on the networks ``models``: one for each, by name, on one thread.

    Raises:
        SkiptuneError: images of the shared search differ in a bit from those of separate runs.
    """
    report: dict[str, Any] = {"images": images, "repeats": repeats, "provenance": provenance("cpu")}
    for name, (sampler, interventions) in searches().items():
        denoiser = models[name]
        run = functools.partial(sampled, denoiser, sampler, images)
        contestants: dict[str, Callable[[], list[Tensor]]] = {
            "together": functools.partial(run, interventions),
            "apart": lambda run=run, all=interventions: [run([one])[0] for one in all],  # type: ignore[misc]
        }
        with one_thread():
            calls = {}
            for way, work in contestants.items():  # also the warm-up
                denoiser.nfe = 0
                work()
                calls[way] = denoiser.nfe
            timings = alternate(contestants, images, repeats, warm_up=False)
        pairs = zip(timings.outcomes["together"], timings.outcomes["apart"], strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            raise SkiptuneError(f"{name}: images computed together differ from those of separate runs")
        report[name] = {
            "evaluations": calls,
            "time_share": timings.ratio("apart", "together"),  # seconds together over seconds apart
        }
    return report


@torch.inference_mode()
def sampled(
    denoiser: Denoiser, sampler: Mapping[str, Any], images: int, interventions: Conditions
) -> list[Tensor]:
    noise, labels = initial_noise(range(images), denoiser.image_shape, denoiser.num_classes)
    condition = None if labels is None else F.one_hot(labels, denoiser.num_classes).float()
    made = sample_together(make_sampler(**sampler), denoiser, interventions, noise, condition)
    return [x for x, _ in made]


def render_sharing(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "# Searches that share work",
        "",
        f"{made_on(report['provenance'], ', one thread')}; {report['images']} images, {report['repeats']} "
        "alternating repeats: median [lowest, highest]. The images are equal in every bit.",
        "",
        "| search | evaluations apart | together | share | time together over apart |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in searches():
        part = report[name]
        apart, together = part["evaluations"]["apart"], part["evaluations"]["together"]
        lines.append(
            f"| {name} | {apart} | {together} | {together / apart:.3f} | {spread(part['time_share'])} |"
        )
    lines += [
        "",
        "Targets: 13 windows at most 0.58 of the evaluations; one step at most 0.8 of the time, where all "
        "conditions share the encoder's pass, which is not counted as a saved evaluation.",
    ]
    return "\n".join(lines) + "\n"
