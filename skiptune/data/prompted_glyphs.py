"""``prompted_glyphs``: letters drawn as a prompt says, such as "a bold red letter K on dark green".

Image *i* of a split and its prompt are functions of ``(split, i)`` alone. Face, letter and the names of the
colours are the prompt's; position, size, a slight turn and the shade of the colours are drawn at random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from skiptune.data.glyphs import FACES, RESOLUTION, SPLIT_SIZE, SPLITS, drawn, inverse_affine, letter_mask
from skiptune.data.prompts_of_glyphs import CATEGORIES, COLOURS, NUM_PROMPTS, RADICES, Prompt
from skiptune.errors import SkiptuneError

SHADE = 0.05  # a colour differs from the named one by at most this, in [0, 1]
# sha256 over the first 64 reference images; a rasteriser that draws differently would change every result.
CHECKSUM = "99a5e859e3c5ad472edc257c58ef82be6b90b7d8897264dedd47fa1d803724ea"


class PromptedGlyphs:
    """The data set behind the common interface; the class of an image is the number of its prompt."""

    name = "prompted_glyphs"
    image_shape = (3, RESOLUTION, RESOLUTION)
    num_classes = NUM_PROMPTS
    digest = CHECKSUM

    def batch(self, seeds: Sequence[int], split: str) -> tuple[Tensor, Tensor]:
        """Images ``[N, 3, 16, 16]`` uint8 and the numbers of their prompts ``[N]`` int64.

        Raises:
            SkiptuneError: unknown split, or a seed outside ``[0, 2^40)``, which would be another split's.
        """
        images = np.empty((len(seeds), RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
        labels = np.empty(len(seeds), dtype=np.int64)
        for i, seed in enumerate(seeds):
            rng = generator(split, int(seed))
            prompt = draw_prompt(rng)
            images[i], labels[i] = render(prompt, rng), prompt.number
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)

    def prompts_of(self, labels: Tensor) -> list[str]:
        """The prompts of these numbers ``[N]``."""
        return [str(Prompt.of_number(number)) for number in labels.tolist()]

    def size(self, split: str) -> int:
        """Number of images of a split. Raises SkiptuneError for an unknown split."""
        split_index(split)
        return SPLIT_SIZE

    def verify(self) -> None:
        """Raise if this machine draws other pixels than the ones the desk models were trained on."""
        images, labels = self.batch(range(64), "reference")
        found = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
        if found != CHECKSUM:
            raise SkiptuneError(
                f"the prompted glyphs drawn here have checksum {found[:12]}, expected {CHECKSUM[:12]}: fonts "
                "or rasteriser differ; install the pinned versions of matplotlib and pillow"
            )


@cache
def verified_prompted_glyphs() -> PromptedGlyphs:
    """The data set after ``verify``, once per process."""
    dataset = PromptedGlyphs()
    dataset.verify()
    return dataset


def prompts(category: str, count: int, split: str = "reference") -> list[Prompt]:
    """The first ``count`` different prompts of a category among those of a split's images.

    Use ``str`` of one, or ask it for what it asks for (``letter``, ``ink``, ...).

    Raises:
        SkiptuneError: unknown category or split, or a negative number.
    """
    if category not in CATEGORIES:
        raise SkiptuneError(f"no prompts are called {category!r}; choose one of {', '.join(CATEGORIES)}")
    most = NUM_PROMPTS // len(CATEGORIES) // 2  # beyond it, looking for new ones takes long
    if not 0 <= count <= most:
        raise SkiptuneError(f"{count} prompts of {category} cannot be had: ask for 0 to {most}")
    found: dict[int, Prompt] = {}
    wanted = CATEGORIES.index(category)
    for prompt in every_prompt(split):
        if len(found) == count:
            break
        if prompt.category == wanted:
            found.setdefault(prompt.number, prompt)
    return list(found.values())


def every_prompt(split: str) -> Iterator[Prompt]:
    """Of image 0, 1, ... of a split."""
    for seed in range(SPLIT_SIZE):
        yield draw_prompt(generator(split, seed))


def split_index(split: str) -> int:
    if split not in SPLITS:
        raise SkiptuneError(f"data set prompted_glyphs has no split {split!r}: choose {', '.join(SPLITS)}")
    return SPLITS[split]


def generator(split: str, seed: int) -> np.random.Generator:
    """Of everything about an image. Raises SkiptuneError for an unknown split or a seed outside of it."""
    if not 0 <= seed < SPLIT_SIZE:
        raise SkiptuneError(f"seed {seed} is outside the split {split}; use 0 to {SPLIT_SIZE - 1}")
    return np.random.Generator(np.random.PCG64(split_index(split) * SPLIT_SIZE + seed))


def draw_prompt(rng: np.random.Generator) -> Prompt:
    """Everything that a prompt can ask for is equally probable."""
    return Prompt(*(int(value) for value in rng.integers(RADICES)))


def render(prompt: Prompt, rng: np.random.Generator) -> np.ndarray:
    """One image ``[16, 16, 3]`` uint8; less is left to chance than in ``glyphs``, so that slant is seen."""
    angle, shear = rng.normal(0, 0.06), rng.normal(0, 0.03)
    scale_x, scale_y = np.exp(rng.normal(0, 0.06, 2))
    warp = inverse_affine(angle, shear, scale_x, scale_y, rng.uniform(-4, 4, 2))
    ink, paper = (
        np.clip(np.array(COLOURS[name]) + rng.uniform(-SHADE, SHADE, 3), 0, 1)
        for name in (prompt.ink, prompt.paper)
    )
    slope, direction = rng.uniform(-0.1, 0.1, 3), rng.uniform(0, 2 * np.pi)
    mask = letter_mask(FACES.index(prompt.face), prompt.letter)
    return drawn(mask, warp, ink, paper, slope, direction)
