"""Images as PNG files, named by their seeds: to be looked at, and for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skiptune.checkpoints.outline import outline_of
from skiptune.data.folder import LABELS
from skiptune.data.images import to_uint8
from skiptune.data.png import png, texts_of
from skiptune.errors import SkiptuneError
from skiptune.runtime.claims import claiming, made_once
from skiptune.runtime.files import read_json, remove_stale, write_atomic
from skiptune.runtime.generation import Generation, not_finite, sample_images
from skiptune.runtime.memory import saying_what_fits
from skiptune.runtime.precision import in_precision
from skiptune.runtime.prompted import UNGUIDED, Guidance, prompted_model
from skiptune.runtime.provenance import provenance
from skiptune.samplers import make_sampler
from skiptune.samplers.noise import SEEDS

RECORD, PROMPTS = "sampling.json", "prompts.json"
CLASS, NFE, PROMPT = "class", "nfe", "prompt"  # texts of the PNG files


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """The images of some seeds in a folder, ``000012.png`` for seed 12, and what they were made with.

    Attributes:
        seeds: below 2^32, as many as there is noise.
        class_label: of every image of a network with classes; None: drawn from its seed.
        prompts: of a text-to-image model; the image of seed ``i`` has number ``i`` modulo their number.
        guidance: of prompts.

    Raises:
        SkiptuneError: settings that make no sense.
    """

    generation: Generation
    seeds: tuple[int, ...]
    folder: Path
    class_label: int | None = None
    prompts: tuple[str, ...] = ()
    guidance: Guidance = UNGUIDED

    def __post_init__(self) -> None:
        if not self.seeds or not 0 <= min(self.seeds) <= max(self.seeds) < SEEDS:
            raise SkiptuneError(f"seeds: give at least one, from 0 to {SEEDS - 1}")
        if self.class_label is not None and type(self.class_label) is not int:
            raise SkiptuneError(f"class_label is {self.class_label!r}, it must be a whole number, or null")
        if self.class_label is not None and self.prompts:
            raise SkiptuneError("give class_label or prompts, not both")
        if self.guidance != UNGUIDED and not self.prompts:
            raise SkiptuneError("guidance is that of prompts: give prompts, or leave it at 1")

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the image of a seed, as plain values. Raises SkiptuneError as ``Generation``.

        Its company does so within rounding: kernels choose algorithms by the size of a batch.
        """
        more: dict[str, Any] = {} if self.class_label is None else {"class_label": self.class_label}
        if self.prompts:
            more = {"prompts": list(self.prompts), "guidance": self.guidance.identity}
        return {**self.generation.identity, **more}

    @property
    def record(self) -> Path:
        """The file that says what the images were made with."""
        return self.folder / RECORD

    def path(self, seed: int) -> Path:
        return self.folder / f"{seed:06d}.png"

    def prompt(self, seed: int) -> str:
        return self.prompts[seed % len(self.prompts)]

    def check(self) -> None:
        """Whether the model takes what it is given, and the folder is for these images. Writes nothing.

        Raises:
            SkiptuneError: it has no such class, takes no prompts or needs some; a setting is unknown or out
                of range; the folder holds images that were made otherwise, or by another program.
        """
        self._check_inputs()
        own = self.identity
        if self.record.exists():
            self._compare(own)
        # Another process may have made the record meanwhile, and then images.
        elif _numbered(self.folder) and not self.record.exists():
            raise SkiptuneError(
                f"{self.folder} holds numbered PNG files but no {RECORD}: choose another folder"
            )

    def _check_inputs(self) -> None:
        """What the network would say itself, but not before it is loaded."""
        name, outline, label = self.generation.model.name, outline_of(self.generation.model), self.class_label
        if self.prompts and outline.text is False:
            raise SkiptuneError(f"model {name} takes no prompts; choose a text-to-image model")
        if not self.prompts and outline.text:
            raise SkiptuneError(f"model {name} is conditioned on text: give prompts")
        if label is not None and outline.classes is not None and not 0 <= label < outline.classes:
            raise SkiptuneError(f"class {label} is none of the network's {outline.classes}")

    def begin(self) -> None:
        """Write the record, unless it is there; of several processes with other settings one is the first.

        Raises:
            SkiptuneError: as ``check``.
        """
        if not self.record.exists():
            self.check()
            made = {"made_with": self.identity, "provenance": provenance(self.generation.device)}
            made_once(self.record, lambda: write_atomic(self.record, json.dumps(made, indent=1) + "\n"))
        self._compare(self.identity)

    def _compare(self, identity: dict[str, Any]) -> None:
        content, own = read_json(self.record), json.loads(json.dumps(identity))
        found = content.get("made_with") if isinstance(content, dict) else None
        if not isinstance(found, dict):
            raise SkiptuneError(f"{self.record} is no record of images: choose another folder")
        if found != own:
            keys = [key for key in {**found, **own} if found.get(key) != own.get(key)]
            raise SkiptuneError(
                f"{self.folder} holds images with another {', '.join(keys)}; choose another folder, in a "
                f"sweep one for each value: 'out={self.folder}_${{intervention.rho_bottom}}'"
            )

    def batches(self) -> list[ImageBatch]:
        """What goes through the network together, ``micro_batch`` seeds in order: tasks of ``fill_in``."""
        size = self.generation.micro_batch
        parts = [self.seeds[i : i + size] for i in range(0, len(self.seeds), size)]
        return [ImageBatch(replace(self, seeds=part)) for part in parts]

    @cached_property
    def names(self) -> frozenset[str]:
        """Of the files."""
        return frozenset(self.path(seed).name for seed in self.seeds)

    def there(self) -> int:
        """How many of the images there are."""
        return len(self.names & _numbered(self.folder))

    def about(self, name: str) -> dict[str, str]:
        """The texts of one of the files. Raises SkiptuneError if it is not as it was written here."""
        texts = texts_of(self.folder / name)
        if not all(texts.get(key, "0").isdecimal() for key in (NFE, CLASS)) or NFE not in texts:
            raise SkiptuneError(
                f"{self.folder / name} is not as it was made: delete it, the same command makes it again"
            )
        return texts

    def finish(self) -> None:
        """Write classes (``dataset.json``, as EDM's data sets have it) or prompts of all images there are."""
        remove_stale(self.folder)
        written = None
        while written != (names := _numbered(self.folder)):  # others may have come meanwhile
            self._list(sorted(names))
            written = names

    def _list(self, names: Sequence[str]) -> None:
        if self.prompts:
            prompts = {name: self.prompt(int(Path(name).stem)) for name in names}
            write_atomic(self.folder / PROMPTS, json.dumps(prompts, indent=0) + "\n")
            return
        texts = {name: self.about(name) for name in names}
        if all(CLASS in about for about in texts.values()):
            labels = [[name, int(about[CLASS])] for name, about in texts.items()]
            write_atomic(self.folder / LABELS, json.dumps({"labels": labels}) + "\n")


@dataclass(frozen=True)
class ImageBatch:
    """Images that are made together. Called, it writes those that are not there and says how many.

    Attributes:
        files: with the seeds of this batch alone.
    """

    files: ImageFiles

    @property
    def absent(self) -> tuple[int, ...]:
        """Those of the seeds whose images are not there."""
        return tuple(seed for seed in self.files.seeds if not self.files.path(seed).exists())

    @property
    def paths(self) -> tuple[Path, ...]:
        """The absent file that is written last, so that one claim stands for all."""
        return tuple(self.files.path(seed) for seed in self.absent[-1:])

    def missing(self) -> ImageBatch | None:
        """The batch, unless all of it is there."""
        return self if self.absent else None

    def __call__(self) -> int:
        """Makes all of them, whose bits depend on their company; none if another process is making them.

        Raises:
            SkiptuneError: NaN or infinity in an image, out of memory, a folder that cannot be written or is,
                when the images are ready, for others.
        """
        with claiming(self.paths) as mine:
            return self._write() if mine else 0

    def _write(self) -> int:
        files, made, seeds = self.files, self.files.generation, self.files.seeds
        with saying_what_fits(made.micro_batch, made.device), in_precision(made.precision, made.device):
            x, labels, nfe = self.images()
        if (error := not_finite(x, seeds, made.intervention)) is not None:
            raise error
        pixels = to_uint8(x, made.model.rounding).cpu()
        files.begin()  # not before there is an image: what fails locks no folder
        absent = self.absent
        for seed in absent:
            row = seeds.index(seed)
            about = {NFE: str(nfe)}
            if labels is not None:
                about[CLASS] = str(int(labels[row]))
            if files.prompts:
                about[PROMPT] = files.prompt(seed)
            write_atomic(files.path(seed), png(pixels[row], about))
        return len(absent)

    @torch.inference_mode()
    def images(self) -> tuple[Tensor, Tensor | None, int]:
        """Float images ``[N, C, H, W]``, their classes ``[N]`` if there are any, network evaluations."""
        files, made, seeds = self.files, self.files.generation, self.files.seeds
        sampler = make_sampler(**made.sampler)
        if not files.prompts:
            ((x, nfe),), labels = sample_images(
                made.network, sampler, [made.intervention], seeds, made.noise_device, files.class_label
            )
            return x, labels, nfe
        prompts = [files.prompt(seed) for seed in seeds]
        rows = {text: row for row, text in enumerate(dict.fromkeys(prompts))}
        model = prompted_model(made.model, made.device, list(rows), files.guidance, made.compile)
        denoiser = model.of([rows[text] for text in prompts])
        ((x, nfe),), _ = sample_images(denoiser, sampler, [made.intervention], seeds, made.noise_device)
        return model.decode(x), None, nfe


def _numbered(folder: Path) -> frozenset[str]:
    """Names of the PNG files in a folder that seeds have given them."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if _is_numbered(entry.name))
    except FileNotFoundError:
        return frozenset()


def _is_numbered(name: str) -> bool:
    stem, _, suffix = name.rpartition(".")
    return suffix == "png" and stem.isdecimal() and f"{int(stem):06d}" == stem
