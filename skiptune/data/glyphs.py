"""``glyphs``: 16x16 colour letters A-Z, rendered endlessly from the fonts that matplotlib ships.

Image *i* of a split is a function of ``(split, i)`` alone: face, letter, colours, affine map and background
gradient are drawn from a generator seeded with them. Splits never share a seed.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from skiptune.errors import SkiptuneError

FACES = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmb10", "cmss10", "cmtt10",
)  # fmt: skip
LETTERS = string.ascii_uppercase
RESOLUTION = 16
CANVAS = 64  # the letter is drawn and transformed at four times the final resolution
MIN_CONTRAST = 0.35  # luminance difference between letter and background, in [0, 1]
SPLITS = {"train": 0, "reference": 1, "features": 2, "heldout": 3}
SPLIT_SIZE = 2**40
# sha256 over the first 64 reference images; a rasteriser that draws differently would change every result.
CHECKSUM = "d8ea21d2bd58a274df821568d4820547b3094bf9e6e1838a697034c46d434c18"


class Glyphs:
    """The data set behind the common interface (see ``skiptune.data.Dataset``)."""

    name = "glyphs"
    image_shape = (3, RESOLUTION, RESOLUTION)
    num_classes = len(LETTERS)
    class_names = tuple(LETTERS)
    digest = CHECKSUM

    def batch(self, seeds: Sequence[int], split: str) -> tuple[Tensor, Tensor]:
        """Images ``[N, 3, 16, 16]`` uint8 and labels ``[N]`` int64 of the given seeds.

        Raises:
            SkiptuneError: unknown split, or a seed outside ``[0, 2^40)``, which would be another split's.
        """
        offset = _index(split) * SPLIT_SIZE
        images = torch.empty(len(seeds), RESOLUTION, RESOLUTION, 3, dtype=torch.uint8)
        labels = torch.empty(len(seeds), dtype=torch.int64)
        for i, seed in enumerate(seeds):
            if not 0 <= seed < SPLIT_SIZE:
                raise SkiptuneError(f"seed {seed} is outside the split {split}; use 0 to {SPLIT_SIZE - 1}")
            image, labels[i] = render(offset + int(seed))
            images[i] = torch.from_numpy(image)
        return images.permute(0, 3, 1, 2).contiguous(), labels

    def size(self, split: str) -> int:
        """Number of images of a split. Raises SkiptuneError for an unknown split."""
        _index(split)
        return SPLIT_SIZE

    def verify(self) -> None:
        """Raise if this machine draws other pixels than the ones the desk models were trained on."""
        images, _ = self.batch(range(64), "reference")
        found = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        if found != CHECKSUM:
            raise SkiptuneError(
                f"the glyphs drawn here have checksum {found[:12]}, expected {CHECKSUM[:12]}: fonts or "
                "rasteriser differ; install the pinned versions of matplotlib and pillow"
            )


@cache
def verified_glyphs() -> Glyphs:
    """The data set after ``verify``, once per process."""
    glyphs = Glyphs()
    glyphs.verify()
    return glyphs


def _index(split: str) -> int:
    if split not in SPLITS:
        raise SkiptuneError(f"data set glyphs has no split {split!r}; choose one of {', '.join(SPLITS)}")
    return SPLITS[split]


@cache
def letter_mask(face: int, letter: int) -> Image.Image:
    """Coverage of one letter, centred on a 64x64 canvas, cap height about 40 pixels."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{FACES[face]}.ttf"
    font = ImageFont.truetype(str(path), 52, layout_engine=ImageFont.Layout.BASIC)
    mask = Image.new("L", (CANVAS, CANVAS))
    left, top, right, bottom = font.getbbox(LETTERS[letter])
    origin = ((CANVAS - left - right) / 2, (CANVAS - top - bottom) / 2)
    ImageDraw.Draw(mask).text((round(origin[0]), round(origin[1])), LETTERS[letter], fill=255, font=font)
    return mask


def render(seed: int) -> tuple[np.ndarray, int]:
    """One image ``[16, 16, 3]`` uint8 and its class."""
    rng = np.random.Generator(np.random.PCG64(seed))
    label, face = int(rng.integers(len(LETTERS))), int(rng.integers(len(FACES)))
    angle, shear = rng.normal(0, 0.12), rng.normal(0, 0.10)
    scale_x, scale_y = np.exp(rng.normal(0, 0.10, 2))
    shift = rng.uniform(-6, 6, 2)
    warp = inverse_affine(angle, shear, scale_x, scale_y, shift)
    ink, paper = contrasting_colours(rng)
    slope, direction = rng.uniform(-0.25, 0.25, 3), rng.uniform(0, 2 * np.pi)
    return drawn(letter_mask(face, label), warp, ink, paper, slope, direction), label


def drawn(
    mask: Image.Image,
    warp: tuple[float, ...],
    ink: np.ndarray,
    paper: np.ndarray,
    slope: np.ndarray,
    direction: float,
) -> np.ndarray:
    """The warped mask in ink on a background, ``[16, 16, 3]`` uint8.

    The background runs linearly from ``paper - slope / 2`` to ``paper + slope / 2``, along ``direction``.
    """
    warped = mask.transform((CANVAS, CANVAS), Image.Transform.AFFINE, warp, Image.Resampling.BILINEAR)
    fine = np.asarray(warped, dtype=np.float32)
    coverage = fine.reshape(RESOLUTION, 4, RESOLUTION, 4).mean(axis=(1, 3)) / 255
    axis = np.linspace(-0.5, 0.5, RESOLUTION)
    ramp = axis[None, :] * np.cos(direction) + axis[:, None] * np.sin(direction)
    background = np.clip(paper + ramp[:, :, None] * slope, 0, 1)
    image = coverage[:, :, None] * ink + (1 - coverage[:, :, None]) * background
    return np.floor(image * 255 + 0.5).astype(np.uint8)


def inverse_affine(
    angle: float, shear: float, scale_x: float, scale_y: float, shift: np.ndarray
) -> tuple[float, ...]:
    """Coefficients (a, b, c, d, e, f) that map output to input pixels, about the centre of the canvas."""
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(rotation @ np.array([[scale_x, shear], [0, scale_y]]))
    centre = np.full(2, CANVAS / 2)
    offset = centre - inverse @ (centre + shift)
    return (inverse[0, 0], inverse[0, 1], offset[0], inverse[1, 0], inverse[1, 1], offset[1])


def contrasting_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ink and paper, RGB in [0, 1], whose luminances differ by at least ``MIN_CONTRAST``."""
    luminance = np.array([0.299, 0.587, 0.114])
    while True:
        ink, paper = rng.uniform(0, 1, (2, 3))
        if abs((ink - paper) @ luminance) >= MIN_CONTRAST:
            return ink, paper
