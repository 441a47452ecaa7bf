"""Benchmarks: ``python scripts/benchmark.py SUBJECT [SETTING=VALUE ...]``, settings in ``configs/benchmark``.

Results go to ``results/benchmarks/``.
"""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help, asked_of

if __name__ == "__main__":
    answer_help(__doc__, *asked_of("benchmark"))  # before the imports that take seconds

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from experiments.benchmarks.loading import SYSTEMS, benchmark_loading, render_loading
from experiments.benchmarks.metric_cost import plot_growth
from experiments.benchmarks.metric_report import PARTS, growth_curves, measure_part, render_metrics
from experiments.benchmarks.metrics import Setup
from experiments.benchmarks.precision import benchmark_precision, render_precision
from experiments.benchmarks.probing import benchmark_probing, render_probing
from experiments.benchmarks.sampling import SAMPLERS, benchmark_sampling, render_sampling
from experiments.benchmarks.scaling import benchmark_scaling, predicted, render_scaling
from experiments.benchmarks.sharing import benchmark_sharing, render_sharing, searches
from experiments.benchmarks.training import benchmark_training, render_training
from experiments.benchmarks.tuning import benchmark_tuning, render_tuning
from experiments.config_files import CONFIGS, choice, choice_names
from experiments.measurement import SeedBlocks
from experiments.samples import SampleMeasurement
from experiments.scale_config import parse_scale
from experiments.tables.read import parse_table
from experiments.tuning.tune import Task
from scripts.shared.common import (
    USER_ERROR,
    complain,
    make_bench,
    plain,
    sampling_of,
    settings_of,
)
from scripts.shared.references import reference_of
from scripts.tune import parse_task
from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.checkpoints.models import resolve_model
from skiptune.denoisers.text_to_image import TextToImage
from skiptune.errors import SkiptuneError
from skiptune.importance import RELEASED, TEXT
from skiptune.runtime.files import write_atomic
from skiptune.runtime.precision import HALF_PRECISIONS
from skiptune.runtime.provenance import device
from skiptune.runtime.seed_chunks import CHUNK
from skiptune.samplers import make_sampler

Outcome = tuple[dict[str, Any], Callable[[dict[str, Any]], str], str]
"""A report, how it is written as Markdown, and the name of its files."""

SIMULATED_WORKERS = (1, 8, 64)
# FID of 50,000 x 2048 features on one core, the reference's factor kept (metrics_cpu.md).
METRIC_SECONDS = 13.0
PROBED, PROMPT = "sd_turbo_glyphs", "a bold red letter K on white"
FEW = 5  # iterations of the probe, of 20, which are alike in what they cost


def main(arguments: list[str]) -> None:
    settings = settings_of_subject(arguments)
    folder = Path(str(settings["results"])) / "benchmarks"
    if arguments[0] == "metrics":
        metrics(settings, folder)
    else:
        write(SUBJECTS[arguments[0]](settings), folder)


def settings_of_subject(arguments: list[str]) -> dict[str, Any]:
    """``SUBJECT key=value ...``. Raises SkiptuneError for an unknown subject, or as ``settings_of``."""
    subject, *pairs = arguments or [""]
    known = choice_names("benchmark")
    if subject not in known:
        raise SkiptuneError(f"unknown benchmark {subject!r}; choose one of {', '.join(known)}")
    return settings_of(f"benchmark/{subject}", pairs)


def write(outcome: Outcome, folder: Path) -> None:
    """The report as JSON and as Markdown, which is printed too."""
    report, render, name = outcome
    write_atomic(folder / f"{name}.json", json.dumps(report, indent=1) + "\n")
    write_atomic(folder / f"{name}.md", render(report))
    print(render(report))


def sampling(settings: dict[str, Any]) -> Outcome:
    """Images per second."""
    kind = device(settings["device"]).type
    report = benchmark_sampling(
        resolve_model(choice("model", "edm_glyphs"), Path("checkpoints")),
        choice("model", "edm_imagenet64")["denoiser"]["kwargs"] if flag(settings, "full_size") else None,
        kind,
        whole_number(settings, "images", 100),
        whole_number(settings, "repeats", 1),
        Path(str(settings["edm_repo"])) if settings["edm_repo"] else None,
    )
    return report, render_sampling, f"sampling_{kind}"


def training(settings: dict[str, Any]) -> Outcome:
    """A step of training with the skip-step loss."""
    on = device(settings["device"])
    if (precision := settings["precision"]) not in (known := ("fp32", *HALF_PRECISIONS)):
        raise SkiptuneError(f"precision is {precision!r}; choose of {', '.join(known)}")
    full_size = ("ddim_cifar10",) if flag(settings, "full_size") else ()
    desk, large = (
        {name: choice("model", name)["denoiser"] for name in names}
        for names in (("ddim1_digits", "ddim1_glyphs"), full_size)
    )
    numbers = whole_number(settings, "batch", 1), whole_number(settings, "repeats", 1)
    compiled = [flag({"compile": value}, "compile") for value in listed(settings, "compile")]
    report = benchmark_training(desk, large, on, *numbers, precision, compiled)
    return report, render_training, f"training_{on.type}"


def sharing(settings: dict[str, Any]) -> Outcome:
    """Searches that share work, on the desk's one-step student and on its teacher."""
    models = {
        name: load_desk_denoiser("cd_glyphs" if sampler["name"] == "consistency" else "edm_glyphs").denoiser
        for name, (sampler, _) in searches().items()
    }
    images, repeats = whole_number(settings, "images", 1), whole_number(settings, "repeats", 1)
    return benchmark_sharing(models, images, repeats), render_sharing, "sharing_cpu"


def scaling(settings: dict[str, Any]) -> Outcome:
    """Two processes against one, and a table of the paper's scale on many, simulated."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        measured = plain(compose("measure", ["sampler=heun", "sampler.steps=5", "device=cpu"]))
        paper = plain(compose("reproduce", ["table=skip_tuning/04", "scale=paper", "device=cpu"]))
    numbers = whole_number(settings, "chunks", 2), whole_number(settings, "repeats", 1)
    report = benchmark_scaling(sampling_of(measured, "cpu"), *numbers)
    tflops = whole_number(settings, "tflops", 1)
    config, scale = parse_table(paper["table"], "table"), parse_scale(paper, "cpu")
    report["predicted"] = predicted(config, scale, SIMULATED_WORKERS, tflops, METRIC_SECONDS)
    return report, render_scaling, "scaling_cpu"


def precision(settings: dict[str, Any]) -> Outcome:
    """FID and speed in other precisions and compiled: the desk model, Heun's sampler, 9 evaluations."""
    blocks, size = whole_number(settings, "blocks", 2), whole_number(settings, "size", CHUNK)
    given = [f"device={settings['device']}", f"outputs={settings['outputs']}"]
    seeds = f"seeds={{first: 0, count: {blocks}, size: {size}}}"
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = plain(compose("measure", ["sampler=heun", "sampler.steps=5", seeds, *given]))
    with make_bench(config) as bench:
        sampling = sampling_of(config, bench.device)
        real = reference_of(config, sampling)
        measurement = SampleMeasurement(sampling, SeedBlocks.of(config["seeds"]), real)
        report = benchmark_precision(measurement, listed(settings, "precisions"), bench)
    return report, render_precision, f"precision_{report['device']}"


def loading(settings: dict[str, Any]) -> Outcome:
    """Time and memory of loading official files."""
    known = {system.model: system for system in SYSTEMS}
    names = listed(settings, "systems", all=list(known))
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise SkiptuneError(f"unknown system {unknown!r}; choose all or a list of {', '.join(known)}")
    report = benchmark_loading(
        {name: choice("model", name) for name in names}, [known[name] for name in names]
    )
    return report, render_loading, "loading_cpu"


def tuning(settings: dict[str, Any]) -> Outcome:
    """The search of ``scripts/tune.py`` for rho at the bottom against the grid of the same values."""
    firsts = whole_numbers(settings, "select", 0)
    optimisers = whole_number(settings, "optimisers", 1)
    fixed = ["space.rho_top=1.0", "space.time_direction=null", "device=cpu", f"outputs={settings['outputs']}"]

    def config(*overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return plain(compose("tune", [*fixed, *overrides]))

    def task(sampler: str, first: int, seed: int) -> Task:
        chosen = (f"sampler={sampler}", f"seeds.select.first={first}", f"optimiser_seed={seed}")
        return parse_task(config(*chosen), "cpu")

    with make_bench(config()) as bench:
        report = benchmark_tuning(task, tuple(SAMPLERS), firsts, optimisers, bench)
    return report, render_tuning, "tuning_cpu"


def probing(settings: dict[str, Any]) -> Outcome:
    """The Importance Probe in both readings on the desk's two-step student, and pruned sampling with it."""
    denoiser = load_desk_denoiser(PROBED).denoiser
    if not isinstance(denoiser, TextToImage):
        raise SkiptuneError(f"{PROBED} takes no prompts; it is to be a text-to-image model")
    report = benchmark_probing(
        PROBED,
        denoiser.prompted([PROMPT]),
        make_sampler("ddim", steps=2, spacing="trailing", end="first"),
        {"released code": replace(RELEASED, iterations=FEW), "text": replace(TEXT, iterations=FEW)},
        whole_number(settings, "images", 1),
        whole_number(settings, "repeats", 1),
    )
    return report, render_probing, "probing_cpu"


def metrics(settings: dict[str, Any], folder: Path) -> None:
    """Metric arithmetic; written after every part, because all of them take about an hour."""
    parts = listed(settings, "parts", all=list(PARTS))
    if unknown := [part for part in parts if part not in PARTS]:
        raise SkiptuneError(f"unknown part {unknown[0]!r}; choose all or some of {', '.join(PARTS)}")
    least = {"dimension": 2, "images": 20, "few": 11, "pictures": 10, "repeats": 1}
    setup = Setup(**{key: whole_number(settings, key, value) for key, value in least.items()})
    sizes = whole_numbers(settings, "sizes", 10)
    path = folder / "metrics_cpu.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    for part in parts:
        report[part] = measure_part(part, setup, sizes)
        write((report, render_metrics, "metrics_cpu"), folder)
    if curves := growth_curves(report):
        plot_growth(curves, setup.dimension, folder / "metrics_growth_cpu.png")


def whole_number(settings: dict[str, Any], key: str, least: int) -> int:
    """The setting as a number. Raises SkiptuneError below ``least``."""
    value = settings[key]
    if type(value) is not int or value < least:
        raise SkiptuneError(f"{key} is {value!r}, it must be a whole number from {least}")
    return value


def whole_numbers(settings: dict[str, Any], key: str, least: int) -> list[int]:
    """As ``whole_number``, of a list."""
    return [whole_number({key: value}, key, least) for value in listed(settings, key)]


def flag(settings: dict[str, Any], key: str) -> bool:
    """The setting as true or false. Raises SkiptuneError if it is neither."""
    if type(value := settings[key]) is not bool:
        raise SkiptuneError(f"{key} is {value!r}, it must be true or false")
    return value


def listed(settings: dict[str, Any], key: str, all: list[str] | None = None) -> list[Any]:
    """The setting as a list; ``all`` of something by that word. Raises SkiptuneError for something else."""
    value = settings[key]
    if value == "all" and all is not None:
        return all
    if not isinstance(value, list) or not value:
        raise SkiptuneError(f"{key} is {value!r}, it must be a list: {key}=[...]")
    return value


SUBJECTS: dict[str, Callable[[dict[str, Any]], Outcome]] = {
    "sampling": sampling,
    "training": training,
    "sharing": sharing,
    "scaling": scaling,
    "precision": precision,
    "loading": loading,
    "tuning": tuning,
    "probing": probing,
}


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SkiptuneError as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
