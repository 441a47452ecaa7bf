"""Images in the cells of a table: lines with labels, columns with titles, a note above a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from torch import Tensor

from experiments.tables.figures import DPI, as_pictures, save
from skiptune.errors import SkiptuneError

FONT, NOTE = 9.0, 7.5  # points
GAP, SPACE = 4, 24  # pixels between images, and between cells


@dataclass(frozen=True)
class Cell:
    """Images ``[N, C, H, W]`` uint8, C = 1 or 3, and a short text above them."""

    images: Tensor
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One line: its label, a cell per column (None: left empty); ``apart``: whether space precedes it."""

    label: str
    cells: Sequence[Cell | None]
    apart: bool = False


def image_table(
    path: Path, lines: Sequence[Line], titles: Sequence[str], *, across: int, image_size: int = 64
) -> None:
    """Write the table as PNG; columns are as wide as their images or their texts ask for.

    Args:
        titles: above the columns; empty texts take no room.
        across: images side by side within a cell.
        image_size: pixels per image at least; images are enlarged by a whole factor, nearest neighbour.

    Raises:
        SkiptuneError: lines of another number of cells than titles, or no image at all.
    """
    cells = [cell for line in lines for cell in line.cells if cell is not None]
    if not cells or any(len(line.cells) != len(titles) for line in lines):
        raise SkiptuneError(f"a table of images needs images, and {len(titles)} cells in every line")
    pictures = {id(cell): as_pictures(cell.images) for cell in cells}
    side = max(max(images.shape[1:3]) for images in pictures.values())
    factor = max(1, -(-image_size // side))
    blocks = {key: _block(images, across, factor) for key, images in pictures.items()}

    widths = []
    for column, title in enumerate(titles):
        here = [line.cells[column] for line in lines]
        notes = [text_width(cell.note, NOTE) for cell in here if cell is not None]
        images = [blocks[id(cell)].shape[1] for cell in here if cell is not None]
        widths.append(max([text_width(title, FONT), *notes, *images]))
    note_height = text_height(NOTE) if any(cell.note for cell in cells) else 0
    left = 2 * SPACE + max(text_width(line.label, FONT) for line in lines)
    x = [left + sum(widths[:i]) + i * SPACE for i in range(len(titles))]
    above = max((title.count("\n") + 1 for title in titles if title), default=0)
    tops, y = [], above * text_height(FONT) + GAP
    for line in lines:
        y += SPACE if line.apart else 0
        tops.append(y + note_height)
        inside = [blocks[id(cell)].shape[0] for cell in line.cells if cell is not None]
        y += note_height + max([text_height(FONT), *inside]) + GAP * 2
    total = (x[-1] + widths[-1] + SPACE // 2, y)

    # Everything is placed in whole pixels, so that no image pixel is resampled.
    canvas = np.full((total[1], total[0], 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for at, width, title in zip(x, widths, titles, strict=True):
        axes.text(at + width / 2, GAP, title, ha="center", va="top", fontsize=FONT)
    for line, top in zip(lines, tops, strict=True):
        height = text_height(FONT)
        for at, width, cell in zip(x, widths, line.cells, strict=True):
            if cell is None:
                continue
            block = blocks[id(cell)]
            begin = at + (width - block.shape[1]) // 2
            canvas[top : top + block.shape[0], begin : begin + block.shape[1]] = block
            axes.text(at + width / 2, top - GAP, cell.note, ha="center", va="bottom", fontsize=NOTE)
            height = max(height, block.shape[0])
        axes.text(left - SPACE, top + height / 2, line.label, ha="right", va="center", fontsize=FONT)
    axes.imshow(canvas, interpolation="none", extent=(0, total[0], total[1], 0), aspect="auto")
    save(figure, path)


def text_width(text: str, points: float) -> int:
    """Pixels that the widest line of a text takes."""
    widths = [TextPath((0, 0), line, size=points).get_extents().width for line in text.split("\n") if line]
    return int(np.ceil(max(widths, default=0) * DPI / 72)) + 2 * GAP


def text_height(points: float) -> int:
    """Pixels from one line of text to the next."""
    return int(np.ceil(1.4 * points * DPI / 72))


def _block(images: np.ndarray, across: int, factor: int) -> np.ndarray:
    """Images ``[N, H, W, 3]`` side by side, ``across`` in a row, enlarged: ``[h, w, 3]`` on white."""
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = images.shape[1] + GAP, images.shape[2] + GAP
    columns = min(across, len(images))
    rows = -(-len(images) // columns)
    block = np.full((rows * height - GAP, columns * width - GAP, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * height, i % columns * width
        block[y : y + image.shape[0], x : x + image.shape[1]] = image
    return block
