"""The prompts of ``prompted_glyphs``: what they can ask for, how they say it, and their numbers.

Four categories, each with its own family of faces and its own wording, stand where the human preference data
set has anime, concept-art, paintings and photo.
"""

from __future__ import annotations

import math
import re
import string
from dataclasses import astuple, dataclass

import torch
from torch import Generator, Tensor

from skiptune.errors import SkiptuneError

LETTERS = string.ascii_uppercase
# Category -> face by [weight][slant].
FACES: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "sign": (("DejaVuSans", "DejaVuSans-Oblique"), ("DejaVuSans-Bold", "DejaVuSans-BoldOblique")),
    "typewriter": (
        ("DejaVuSansMono", "DejaVuSansMono-Oblique"),
        ("DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique"),
    ),
    "newspaper": (("DejaVuSerif", "DejaVuSerif-Italic"), ("DejaVuSerif-Bold", "DejaVuSerif-BoldItalic")),
    "textbook": (("STIXGeneral", "STIXGeneralItalic"), ("STIXGeneralBol", "STIXGeneralBolIta")),
}
CATEGORIES = tuple(FACES)
WORDINGS: dict[str, tuple[str, str, str]] = {
    "sign": (
        "a {style} {ink} letter {letter} on {paper}",
        "a {paper} sign with a {style} {ink} {letter}",
        "{style} {ink} {letter} painted on a {paper} wall",
    ),
    "typewriter": (
        "the letter {letter} typed in {style} {ink} on {paper} paper",
        "a {style} typewritten {letter} in {ink} on {paper}",
        "typewriter with {style} {ink} {letter} and {paper} paper",
    ),
    "newspaper": (
        "a headline {letter} in {style} {ink} ink on {paper} newsprint",
        "{style} {ink} {letter} printed on a {paper} newspaper",
        "newspaper initial {letter} in {style} {ink} on {paper}",
    ),
    "textbook": (
        "the {style} symbol {letter} written in {ink} on a {paper} board",
        "a {style} variable {letter} in {ink} on a {paper} page",
        "formula with {letter} in {style} {ink} on {paper}",
    ),
}
NUM_WORDINGS = 3
WEIGHTS, SLANTS = ("", "bold"), ("", "italic")
COLOURS: dict[str, tuple[float, float, float]] = {  # RGB in [0, 1]
    "black": (0.05, 0.05, 0.05),
    "white": (0.95, 0.95, 0.95),
    "gray": (0.50, 0.50, 0.50),
    "red": (0.85, 0.10, 0.10),
    "dark red": (0.45, 0.02, 0.05),
    "green": (0.15, 0.70, 0.20),
    "dark green": (0.02, 0.30, 0.08),
    "blue": (0.15, 0.30, 0.90),
    "dark blue": (0.05, 0.08, 0.45),
    "light blue": (0.60, 0.80, 0.98),
    "yellow": (0.98, 0.90, 0.15),
    "orange": (0.98, 0.55, 0.08),
    "purple": (0.50, 0.12, 0.65),
    "pink": (0.98, 0.60, 0.75),
    "brown": (0.45, 0.27, 0.12),
    "turquoise": (0.15, 0.80, 0.75),
}
MIN_CONTRAST = 0.35  # luminance difference of ink and paper, in [0, 1]


def luminance(colour: str) -> float:
    """Of a named colour, in [0, 1]."""
    return sum(part * weight for part, weight in zip(COLOURS[colour], (0.299, 0.587, 0.114), strict=True))


# Ink and paper that a prompt may name together.
PAIRS = tuple(
    (ink, paper)
    for ink in COLOURS
    for paper in COLOURS
    if abs(luminance(ink) - luminance(paper)) >= MIN_CONTRAST
)
RADICES = (len(CATEGORIES), NUM_WORDINGS, len(LETTERS), len(WEIGHTS), len(SLANTS), len(PAIRS))
NUM_PROMPTS = math.prod(RADICES)
ATTRIBUTES = ("category", "wording", "letter", "bold", "italic", "colours")


@dataclass(frozen=True)
class Prompt:
    """What a prompt asks for, each as an index into the tuples above; ``bold`` and ``italic`` are 0 or 1."""

    category: int
    wording: int
    letter: int
    bold: int
    italic: int
    colours: int

    def __post_init__(self) -> None:
        if any(not 0 <= value < radix for value, radix in zip(astuple(self), RADICES, strict=True)):
            raise SkiptuneError(f"{self} asks for something that there is not")

    @property
    def face(self) -> str:
        return FACES[CATEGORIES[self.category]][self.bold][self.italic]

    @property
    def ink(self) -> str:
        return PAIRS[self.colours][0]

    @property
    def paper(self) -> str:
        return PAIRS[self.colours][1]

    @property
    def number(self) -> int:
        """In ``0 .. NUM_PROMPTS - 1``, one for every prompt."""
        number = 0
        for value, radix in zip(astuple(self), RADICES, strict=True):
            number = number * radix + value
        return number

    @classmethod
    def of_number(cls, number: int) -> Prompt:
        """The prompt of that number. Raises SkiptuneError if there is none."""
        if not 0 <= number < NUM_PROMPTS:
            raise SkiptuneError(f"there is no prompt {number}: they are 0 to {NUM_PROMPTS - 1}")
        values = []
        for radix in reversed(RADICES):
            number, value = divmod(number, radix)
            values.append(value)
        return cls(*reversed(values))

    def __str__(self) -> str:
        style = f"{WEIGHTS[self.bold]} {SLANTS[self.italic]}"
        text = WORDINGS[CATEGORIES[self.category]][self.wording].format(
            style=style, ink=self.ink, letter=LETTERS[self.letter], paper=self.paper
        )
        return re.sub(r"\ba (?=[aeiou])", "an ", " ".join(text.split()))


def changed(numbers: Tensor, attribute: str, generator: Generator) -> Tensor:
    """Numbers ``[N]`` of prompts that ask for another letter, other colours, ... and else for the same.

    Raises:
        SkiptuneError: an unknown attribute.
    """
    if attribute not in ATTRIBUTES:
        raise SkiptuneError(f"prompts have no {attribute!r}: choose one of {', '.join(ATTRIBUTES)}")
    place = ATTRIBUTES.index(attribute)
    radix, unit = RADICES[place], math.prod(RADICES[place + 1 :])
    value = numbers // unit % radix
    other = (value + torch.randint(1, radix, numbers.shape, generator=generator)) % radix
    return numbers + (other - value) * unit


def vocabulary() -> tuple[str, ...]:
    """Every word that a prompt can contain, in alphabetic order."""
    fixed = " ".join(wording for each in WORDINGS.values() for wording in each)
    words = set(re.sub(r"\{\w+\}", "", fixed).split()) | {"an", "bold", "italic"} | set(LETTERS)
    return tuple(sorted(words | {word for colour in COLOURS for word in colour.split()}))
