"""Images on paths between two latents: models down, the weight of the last end across (Figure 6)."""

from __future__ import annotations

from pathlib import Path

from experiments.drawings.image_table import Cell, Line, image_table
from experiments.drawings.made import Made
from experiments.image_means import ImageMeans
from experiments.s2dm.interpolation import PATHS_KEPT, Interpolation
from experiments.tables.config import FigureConfig
from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError
from skiptune.runtime.seed_chunks import open_run, read_chunks


def draw_interpolation(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """The first ``paths`` paths of the kind ``path``, each by every model: equal latents below one another.

    The figure's parameters: ``path``, ``paths`` and ``caption``. Raises SkiptuneError if no row has such a
    path, or for more paths than are kept.
    """
    spec = Section(figure.parameters, f"figure {figure.name}")
    kind, count, caption = spec.take("path", str), spec.take("paths", int), spec.take("caption", str)
    spec.finish()
    if not 1 <= count <= PATHS_KEPT:
        raise SkiptuneError(f"{spec.where}: paths is {count}, of which 1 to {PATHS_KEPT} are kept")
    drawn = []
    for row in made.rows:
        measured = made.measurements[row.id]
        if not isinstance(measured, ImageMeans) or not isinstance(measured.settings, Interpolation):
            continue
        run = measured.settings
        if run.path == kind:
            chunk = read_chunks(open_run(run, made.bench.store), measured.blocks.seeds)[0]
            drawn.append((row.arm, chunk["images"].unflatten(0, (-1, run.points))))
    if not drawn:
        raise SkiptuneError(f"{spec.where}: no row interpolates along a {kind} path")
    points = drawn[0][1].shape[1]
    if any(images.shape[1] != points for _, images in drawn):
        raise SkiptuneError(f"{spec.where}: its rows differ in the number of points")
    lines = [
        Line(arm, [Cell(images[number, point][None]) for point in range(points)], apart=number > 0 and i == 0)
        for number in range(count)
        for i, (arm, images) in enumerate(drawn)
    ]
    image_table(path, lines, [f"{i / (points - 1):.2f}" for i in range(points)], across=1)
    return caption
