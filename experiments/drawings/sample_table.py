"""Samples of several models from equal latents: models down, a setting across (S2-DMs, Figure 4)."""

from __future__ import annotations

from pathlib import Path

from experiments.drawings.image_table import Cell, Line, image_table
from experiments.drawings.made import Made
from experiments.drawings.sample_pair import stored_samples
from experiments.tables.config import FigureConfig, RowConfig
from experiments.tables.parsing import Section
from experiments.values import Value
from skiptune.errors import SkiptuneError


def draw_sample_table(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One line per arm, one column per value of the setting ``x``, the first ``count`` images in each cell.

    The figure's parameters: ``x``; ``count``; ``across``, images side by side in a cell; ``caption``. Above a
    cell stands the table's first metric with its 95% interval.
    """
    spec = Section(figure.parameters, f"figure {figure.name}")
    x, count, across = spec.take("x", str), spec.take("count", int), spec.take("across", int)
    caption = spec.take("caption", str)
    spec.finish()
    titles = {column.key: column.title for column in made.config.columns}
    values = list(dict.fromkeys(made.settings(row).get(x) for row in made.rows))
    arms = list(dict.fromkeys(row.arm for row in made.rows))
    place = {(row.arm, made.settings(row).get(x)): row for row in made.rows}
    lines = []
    for arm in arms:
        cells = [
            None if (row := place.get((arm, value))) is None else _cell(made, row, count) for value in values
        ]
        lines.append(Line(arm, cells))
    image_table(path, lines, [f"{value} {titles.get(x, x)}" for value in values], across=across)
    return caption


def _cell(made: Made, row: RowConfig, count: int) -> Cell:
    images = stored_samples(made, row.id).images[:count]
    measured = made.measured[row.id]
    shown = (column for column in made.config.columns if column.key in measured.blocks)
    if (metric := next(shown, None)) is None:
        raise SkiptuneError(f"row '{row.id}' has no metric to write above its images; give it one")
    value = measured.value(metric.key, made.scale.protocol)
    return Cell(images, f"{metric.title} {in_brief(value)}")


def in_brief(value: Value) -> str:
    """A value with its 95% interval in three digits, of thousands in all of theirs."""

    def number(x: float) -> str:
        return f"{x:,.0f}" if abs(x) >= 999.5 else f"{x:.3g}"

    if value.low is None or value.high is None:
        return number(value.value)
    return f"{number(value.value)} [{number(value.low)}, {number(value.high)}]"
