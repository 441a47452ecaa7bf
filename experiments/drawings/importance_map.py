"""How important every transformer block is at every step, as a map (Importance Probe)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.drawings.made import Made
from experiments.tables.config import FigureConfig, RowConfig
from experiments.tables.figures import DPI, save
from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError

CELL = 0.34  # inches


def draw_importance_map(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One panel for every role, arm and ranking; blocks down, from the first encoder level, steps across.

    The figure's parameters: ``metric``, of which a step's row has one per block, ``<metric>_<number>``;
    ``places``: whether it runs to the number of blocks, else to 1; ``caption``. In the cells are means.
    """
    spec = Section(figure.parameters, f"figure {figure.name}")
    metric, places = spec.take("metric", str), spec.flag("places", False)
    caption = spec.take("caption", str)
    spec.finish()
    panels: dict[str, list[RowConfig]] = {}
    for row in made.rows:
        if any(name.startswith(f"{metric}_") for name in made.measured[row.id].blocks):
            panels.setdefault(panel_of(row), []).append(row)
    if not panels:
        raise SkiptuneError(f"figure {figure.name}: no row has a metric {metric}_<block>")
    tables = {title: table_of(made, rows, metric) for title, rows in panels.items()}
    of_one = Counter(title.partition("\n")[0] for title in tables)
    columns = max(of_one.values())  # the panels of one model stand side by side
    lines = -(-len(tables) // columns)
    steps = max(values.shape[1] for _, values in tables.values())
    width, height = max(1.9, CELL * steps + 0.8), CELL * 7 + 1.0
    drawing = Figure(figsize=(width * columns, height * lines), dpi=DPI)
    for i, (title, (numbers, values)) in enumerate(tables.items()):
        axes = drawing.add_subplot(lines, columns, i + 1)
        blocks = len(numbers)
        low, high = (1, blocks) if places else (1 / blocks, 1)
        axes.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for y, x in np.ndindex(*values.shape):
            dark = values[y, x] < (low + high) / 2
            axes.text(
                x, y, f"{values[y, x]:.1f}" if places else f"{values[y, x]:.2f}".lstrip("0"),
                ha="center", va="center", fontsize=6.5, color="white" if dark else "black",
            )  # fmt: skip
        axes.set_yticks(
            range(blocks), [f"{n}" + " mid" * (n == numbers[blocks // 2]) for n in numbers], fontsize=7
        )
        axes.set_xticks(range(values.shape[1]))
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("step", fontsize=8)
        if i % columns == 0:
            axes.set_ylabel("block", fontsize=8)
        axes.tick_params(length=0)
    drawing.tight_layout()
    save(drawing, path)
    return str(caption)


def panel_of(row: RowConfig) -> str:
    """Where a row belongs: rows that differ in the step alone share a panel."""
    ranking = row.measure.get("ranking", "")
    return f"{row.facts.get('panel', row.role)}\n{row.arm}, {ranking}"


def table_of(made: Made, rows: list[RowConfig], metric: str) -> tuple[list[int], np.ndarray]:
    """Numbers of the blocks, and mean values ``[blocks, steps]``, steps in order."""
    ordered = sorted(rows, key=lambda row: int(row.measure.get("step", 0)))
    names = [name for name in made.measured[ordered[0].id].blocks if name.startswith(f"{metric}_")]
    numbers = sorted(int(name.rpartition("_")[2]) for name in names)
    values = [
        [made.measured[row.id].value(f"{metric}_{number}").value for row in ordered] for number in numbers
    ]
    return numbers, np.array(values)
