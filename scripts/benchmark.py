"""Benchmarks: ``python scripts/benchmark.py sampling [SETTING=VALUE ...]``.

Settings: ``edm_repo=DIR device=auto images=500 repeats=5 full_size=true results=results``; ``edm_repo`` is
your own checkout of NVlabs/edm. Results go to ``results/benchmarks/``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml
from common import CONFIGS, USER_ERROR, complain

from experiments.benchmarks.sampling import benchmark_sampling, render_sampling
from skiptune.checkpoints.models import resolve_model
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import write_atomic
from skiptune.runtime.provenance import device

DEFAULTS = {
    "edm_repo": "",
    "device": "auto",
    "images": "500",
    "repeats": "5",
    "full_size": "true",
    "results": "results",
}


def main(arguments: list[str]) -> None:
    subject, *pairs = arguments or [""]
    if subject != "sampling":
        raise SkiptuneError(f"unknown benchmark {subject!r}; choose one of sampling")
    settings = dict(DEFAULTS)
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in settings:
            raise SkiptuneError(f"unknown setting {key!r}; settings: {', '.join(settings)}")
        settings[key] = value
    models = Path(CONFIGS) / "model"
    desk = yaml.safe_load((models / "edm_glyphs.yaml").read_text())
    full = yaml.safe_load((models / "edm_imagenet64.yaml").read_text())
    report = benchmark_sampling(
        resolve_model(desk, Path("checkpoints")),
        full["denoiser"]["kwargs"] if settings["full_size"] == "true" else None,
        device(settings["device"]).type,
        whole_number(settings, "images", 100),
        whole_number(settings, "repeats", 1),
        Path(settings["edm_repo"]) if settings["edm_repo"] else None,
    )
    folder = Path(settings["results"]) / "benchmarks"
    name = f"sampling_{device(settings['device']).type}"
    write_atomic(folder / f"{name}.json", json.dumps(report, indent=1) + "\n")
    write_atomic(folder / f"{name}.md", render_sampling(report))
    print(render_sampling(report))


def whole_number(settings: dict[str, str], key: str, least: int) -> int:
    """The setting as a number. Raises SkiptuneError below ``least``."""
    text = settings[key]
    if not text.isdecimal() or int(text) < least:
        raise SkiptuneError(f"{key} is {text!r}, it must be a whole number from {least}")
    return int(text)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SkiptuneError as error:
        complain(error)
        raise SystemExit(USER_ERROR) from None
