"""Images of numbered seeds as PNG files, with ``-m`` those of a sweep; prints a line of JSON per folder."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

import json
import re
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from experiments.drawings.grid import grid
from scripts.common import command, generation_of, processors
from skiptune.data.pictures import decode
from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import barrier, share, world
from skiptune.runtime.generation import Generation
from skiptune.runtime.image_files import NFE, ImageBatch, ImageFiles, text
from skiptune.runtime.progress import Progress
from skiptune.runtime.prompted import Guidance

SHOWN = 64  # images in the picture of all


@command("sample")
def main(config: dict[str, Any]) -> None:
    device, workers = processors(config)
    files = files_of(config, Generation(**generation_of(config, device)))
    if world().is_main:
        files.begin()
    barrier()
    # The share of a rank is that of all batches: those that are missing become fewer.
    missing = [batch for batch in share(files.batches(), world()) if batch.absent]
    left = sum(len(batch.seeds) for batch in missing)
    all_of_share = sum(len(batch.seeds) for batch in share(files.batches(), world()))
    started = time.perf_counter()
    with Progress(
        all_of_share,
        label=f"images of {config['model']['name']}",
        initial=all_of_share - left,
        silent=not world().is_main,
    ) as progress:

        def on_done(batch: ImageBatch) -> None:
            progress.advance(len(batch.seeds))

        workers.run(missing, on_done)
    seconds = time.perf_counter() - started
    barrier()
    if world().is_main:
        files.finish()
        report = {
            "folder": str(files.folder),
            "overview": str(overview(files)),
            "images": len(files.seeds),
            "nfe": int(text(files.path(files.seeds[0]))[NFE]),
            "images_per_second": left / seconds if left else None,
        }
        print(json.dumps(report), flush=True)


def files_of(config: dict[str, Any], generation: Generation) -> ImageFiles:
    """Which images a configuration asks for. Raises SkiptuneError for settings that make no sense."""
    label, prompts = config["class_label"], prompts_of(config["prompts"])
    if label is not None and type(label) is not int:
        raise SkiptuneError(f"class_label is {label!r}, it must be a whole number, or null")
    if label is not None and prompts:
        raise SkiptuneError("give class_label or prompts, not both")
    if not (folder := Path(str(config["out"]))).name:
        raise SkiptuneError(f"out is {config['out']!r}: name a folder of its own, such as samples")
    return ImageFiles(
        generation=generation,
        seeds=seeds_of(config["seeds"]),
        folder=folder,
        class_label=label,
        prompts=prompts,
        guidance=Guidance(float(config["guidance"]), config["negative_prompt"]),
    )


def seeds_of(given: Any) -> tuple[int, ...]:
    """Seeds as numbers and ranges, both ends included: ``0-63``, ``0,5,10-20``, 7 or a list; each once.

    Raises:
        SkiptuneError: anything else.
    """
    parts = given if isinstance(given, list) else str(given).split(",")
    seeds: dict[int, None] = {}
    for part in parts:
        found = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", str(part))
        first, last = (0, -1) if found is None else (int(found[1]), int(found[2] or found[1]))
        if first > last:
            raise SkiptuneError(f"seeds: {str(part)!r} is no number or range such as 0-63")
        seeds.update(dict.fromkeys(range(first, last + 1)))
    if not seeds:
        raise SkiptuneError("seeds: none are given")
    return tuple(seeds)


def prompts_of(given: Any) -> tuple[str, ...]:
    """A text, a list of texts, or the lines of a file. Raises SkiptuneError for no text."""
    if given is None:
        return ()
    if isinstance(given, str) and Path(given).is_file():
        given = Path(given).read_text(encoding="utf-8").splitlines()
    texts = tuple(given) if isinstance(given, list) else (given,)
    if not texts or not all(isinstance(each, str) and each for each in texts):
        raise SkiptuneError("prompts must be a text, a list of texts, or a file with one a line")
    return texts


def overview(files: ImageFiles) -> Path:
    """Draws the first images in one picture beside the folder; returns its path."""
    shown = [files.path(seed) for seed in files.seeds[:SHOWN]]
    images = torch.stack([decode(str(each), each.read_bytes()) for each in shown])
    path = files.folder.with_name(files.folder.name + ".png")
    Image.fromarray(grid(images, columns=min(8, len(shown)))).save(path)
    return path


if __name__ == "__main__":
    main()
