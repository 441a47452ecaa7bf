"""Images of numbered seeds as PNG files, with ``-m`` those of a sweep; prints a line of JSON per folder."""

from __future__ import annotations

import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
if os.path.realpath(sys.path[0]) == here:  # else scripts/inspect.py would hide the standard library's
    sys.path[0] = os.path.dirname(here)

from scripts.shared.usage import answer_help

if __name__ == "__main__":
    answer_help(__doc__, "sample")  # before the imports that take seconds

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import torch

from experiments.drawings.grid import grid
from scripts.shared.common import command, generation_of, processors
from skiptune.data.pictures import decode
from skiptune.data.png import png, texts_of
from skiptune.data.texts import is_text, list_of_texts
from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import barrier, world
from skiptune.runtime.files import write_atomic
from skiptune.runtime.filling import fill_in, in_turn, still_missing
from skiptune.runtime.generation import Generation
from skiptune.runtime.image_files import NFE, ImageFiles
from skiptune.runtime.progress import Progress
from skiptune.runtime.prompted import Guidance

SHOWN = 64  # images in the picture of all
MOST = 10_000_000  # images that one folder is asked for
OVERVIEW = "overview"  # text of the picture of all


@command("sample")
def main(config: dict[str, Any]) -> None:
    device, workers = processors(config)
    files = files_of(config, Generation(**generation_of(config, device)))
    files.check()
    check_overview(overview_of(files.folder))
    rate = None
    if missing := still_missing(in_turn(files.batches(), world())):
        silent = not world().is_main
        label = f"images of {config['model']['name']}"
        progress = Progress(len(files.seeds), label=label, initial=files.there(), silent=silent)
        _, rate = fill_in(missing, workers, progress, files.there)
    barrier()
    if world().is_main:
        files.finish()
        draw(files)
        report = {
            "folder": str(files.folder),
            "overview": str(overview_of(files.folder)),
            "images": len(files.seeds),
            "nfe": int(files.about(files.path(files.seeds[0]).name)[NFE]),
            "images_per_second": rate,
        }
        print(json.dumps(report), flush=True)


def files_of(config: dict[str, Any], generation: Generation) -> ImageFiles:
    """Which images a configuration asks for. Raises SkiptuneError for settings that make no sense."""
    out = config["out"]
    if type(out) not in (str, int, float) or Path(str(out)).name in ("", ".."):
        raise SkiptuneError(f"out is {out!r}: name a folder of its own, such as samples")
    return ImageFiles(
        generation=generation,
        seeds=seeds_of(config["seeds"]),
        folder=Path(str(out)),
        class_label=config["class_label"],
        prompts=prompts_of(config["prompts"], config["prompts_file"]),
        guidance=Guidance(config["guidance"], config["negative_prompt"]),
    )


def seeds_of(given: Any) -> tuple[int, ...]:
    """Seeds as numbers and ranges, both ends included: ``0-63``, ``0,5,10-20``, 7 or a list; each once.

    Raises:
        SkiptuneError: anything else, or too many.
    """
    parts = given if isinstance(given, list) else str(given).split(",")
    seeds: dict[int, None] = {}
    for part in parts:
        found = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", str(part))
        first, last = (0, -1) if found is None else (int(found[1]), int(found[2] or found[1]))
        if first > last:
            raise SkiptuneError(f"seeds: {str(part)!r} is no number or range such as 0-63")
        seeds.update(dict.fromkeys(range(first, min(last, first + MOST) + 1)))
        if len(seeds) > MOST:
            raise SkiptuneError(f"seeds: more than {MOST:,} images for one folder; divide them among several")
    return tuple(seeds)


def prompts_of(given: Any, file: Any) -> tuple[str, ...]:
    """A text or a list of texts, or those of a file. Raises SkiptuneError for anything else."""
    if given is None:
        return () if file is None else list_of_texts(Path(str(file)))
    if file is not None:
        raise SkiptuneError("give prompts or prompts_file, not both")
    texts = tuple(given) if isinstance(given, list) else (given,)
    if not texts or not all(map(is_text, texts)):
        raise SkiptuneError("prompts must be a text or a list of texts; prompts_file reads them from a file")
    if len(texts) == 1 and os.path.isfile(texts[0]):
        raise SkiptuneError(f"prompts={texts[0]} names a file: give it as prompts_file={texts[0]}")
    return texts


def overview_of(folder: Path) -> Path:
    """The picture of the first images, beside their folder."""
    return folder.with_name(folder.name + "_overview.png")


def check_overview(path: Path) -> None:
    """Raises SkiptuneError for somebody else's picture of that name."""
    with contextlib.suppress(SkiptuneError):  # no picture
        if not path.exists() or OVERVIEW in texts_of(path):
            return
    raise SkiptuneError(f"{path} is there already, the overview would replace it: choose another out")


def draw(files: ImageFiles) -> None:
    """The overview."""
    shown = [files.path(seed) for seed in files.seeds[:SHOWN]]
    images = [decode(str(each), each.read_bytes()) for each in shown]
    for path, image in zip(shown, images, strict=True):
        if image.shape != images[0].shape:
            raise SkiptuneError(f"{path} has another size than {shown[0]}: delete the one that is wrong")
    tiles = torch.from_numpy(grid(torch.stack(images), columns=min(8, len(shown)))).permute(2, 0, 1)
    write_atomic(overview_of(files.folder), png(tiles, {OVERVIEW: files.folder.name}))


if __name__ == "__main__":
    main()
