"""The prompts of the tables, and how numbered images stand for prompts and splits."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.measurement import SeedBlocks
from experiments.scale import Scale
from experiments.tables.parsing import Section
from skiptune.data.prompted_glyphs import prompts as glyph_prompts
from skiptune.errors import SkiptuneError
from skiptune.runtime.files import canonical_json, digest
from skiptune.runtime.seed_chunks import CHUNK

SPLITS = ("train", "test")
SHUFFLE = 42  # the released program shuffles every category with this seed and takes the first ones
APART = 1_000_000  # between the noise seeds of two splits, more than there are prompts
GLYPHS, FILES = "prompted_glyphs", "files"


@dataclass(frozen=True)
class PromptList:
    """Prompts of several categories, with one image of every prompt in either split.

    Image ``n`` is of split ``n % 2`` (train, test) and prompt ``n // 2``; prompt ``j`` of category ``j % C``.

    Attributes:
        texts: the prompts ``j``.
        categories: C names.
        seeds: of the noise of either split.
        shared: whether all prompts of a split have one latent, and their probes equal draws, as in the
            released program; else each has its own, so that prompts are independent.
        glyphs: numbers of the prompts of ``prompted_glyphs``, whose images can be rendered; else empty.
    """

    texts: tuple[str, ...]
    categories: tuple[str, ...]
    seeds: tuple[int, int]
    shared: bool
    glyphs: tuple[int, ...] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """What determines prompts and noise, as plain values."""
        return {
            "texts": digest(canonical_json(list(self.texts))),
            "seeds": list(self.seeds),
            "latents": "shared" if self.shared else "own",
        }

    @property
    def images(self) -> int:
        return len(SPLITS) * len(self.texts)

    def numbers(self, seeds: range) -> range:
        """Those of these numbers that stand for an image."""
        return range(seeds.start, min(seeds.stop, self.images))

    def prompts(self, seeds: range) -> range:
        """The prompts whose images these numbers, of a whole chunk, stand for."""
        found = self.numbers(seeds)
        return range(found.start // len(SPLITS), found.stop // len(SPLITS))

    def text(self, number: int) -> str:
        return self.texts[number // len(SPLITS)]

    def noise_seed(self, number: int) -> int:
        """Of an image."""
        return self.prompt_seed(number // len(SPLITS), number % len(SPLITS))

    def prompt_seed(self, prompt: int, split: int) -> int:
        """Of the noise of a prompt's image in a split, 0 or 1."""
        seed = self.seeds[split]
        return seed if self.shared else seed * APART + prompt


@dataclass(frozen=True)
class PromptBlocks(SeedBlocks):
    """All images of a list of prompts, in whole chunks; ``images`` of them there are."""

    images: int = 0

    @classmethod
    def of_list(cls, prompts: PromptList) -> PromptBlocks:
        return cls(0, 1, -(-prompts.images // CHUNK) * CHUNK, prompts.images)

    @property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        return ((0, self.images - 1),)


def prompt_list(scale: Scale, count: int | None = None) -> PromptList:
    """The scale's prompts, its number or the first ``count`` of every category.

    Raises:
        SkiptuneError: no prompts at this scale, a file of them missing, or fewer in it.
    """
    source = Source.of(scale)
    count = source.count if count is None else count
    found = [source.of_category(name, count, scale.checkpoints) for name in source.categories]
    texts, numbers = zip(*(one for several in zip(*found, strict=True) for one in several), strict=True)
    glyphs = numbers if source.kind == GLYPHS else ()
    return PromptList(texts, source.categories, source.seeds, source.shared, glyphs)


def one_prompt(scale: Scale, text: str, times: int = 1) -> PromptList:
    """One text, as often as it is to be probed, with the scale's seeds."""
    source = Source.of(scale)
    return PromptList((text,) * times, source.categories, source.seeds, True)


def count_images(scale: Scale, count: int | None = None) -> int:
    """Images of the prompts, without reading them."""
    source = Source.of(scale)
    return len(SPLITS) * len(source.categories) * (source.count if count is None else count)


@dataclass(frozen=True)
class Source:
    """The section ``prompts`` of a scale.

    Attributes:
        kind: ``prompted_glyphs``, whose categories have names, or ``files``, a JSON list of texts each.
        files: by category, in the checkpoints folder.
        command: what gets the files.
    """

    kind: str
    categories: tuple[str, ...]
    count: int
    seeds: tuple[int, int]
    shared: bool
    files: Mapping[str, str]
    command: str

    @classmethod
    def of(cls, scale: Scale) -> Source:
        """Raises SkiptuneError for a scale without prompts, or a setting that is none."""
        section = Section(scale.prompts, f"prompts of scale {scale.name}")
        kind = section.choice("source", (GLYPHS, FILES))
        seeds = Section(section.take("seeds", Mapping), f"{section.where}.seeds")
        pair = seeds.take("train", int), seeds.take("test", int)
        seeds.finish()
        randomness = section.choice("randomness", ("own", "shared"))
        source = cls(
            kind,
            tuple(section.take("categories", Sequence)),
            section.take("count", int),
            pair,
            randomness == "shared",
            section.optional("files", Mapping, {}),
            section.optional("command", str, ""),
        )
        section.finish()
        return source

    def of_category(self, name: str, count: int, checkpoints: Path) -> list[tuple[str, int]]:
        """The first ``count`` prompts of a category, with their numbers."""
        if self.kind == GLYPHS:
            return [(str(prompt), prompt.number) for prompt in glyph_prompts(name, count)]
        path = checkpoints / self.files[name]
        if not path.is_file():
            raise SkiptuneError(
                f"file {path} of the prompts '{name}' is missing; get it with: {self.command}"
            )
        texts = read_texts(path)
        random.Random(SHUFFLE).shuffle(texts)
        if len(texts) < count:
            raise SkiptuneError(f"{path} has {len(texts)} prompts, {count} are asked for")
        return [(text, number) for number, text in enumerate(texts[:count])]


def read_texts(path: Path) -> list[str]:
    """A JSON list of texts. Raises SkiptuneError for anything else."""
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SkiptuneError(f"{path} is not a JSON list of prompts ({error})") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise SkiptuneError(f"{path} is not a JSON list of prompts")
    return texts
