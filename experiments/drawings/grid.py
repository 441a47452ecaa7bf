"""Images side by side in one picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.tables.figures import as_pictures

SIDE = 64


def grid(images: Any, columns: int = 4) -> np.ndarray:
    """uint8 ``[H, W, 3]``: images ``[N, C, h, w]`` side by side, small ones enlarged by a whole factor.

    They then have ``SIDE`` pixels of a side at least. Raises SkiptuneError for images of another kind.
    """
    pictures = as_pictures(images)
    factor = max(1, -(-SIDE // max(pictures.shape[1:3])))
    pictures = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width, _ = pictures.shape
    lines = -(-count // columns)
    tiles = np.full((lines * columns, height, width, 3), 255, dtype=np.uint8)
    tiles[:count] = pictures
    tiled = tiles.reshape(lines, columns, height, width, 3).transpose(0, 2, 1, 3, 4)
    return tiled.reshape(lines * height, columns * width, 3)
