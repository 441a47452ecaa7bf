"""Two metrics of the rows against each other, with 95% intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.drawings.lines import COLOURS, MARKERS, legend_columns, value_of
from experiments.drawings.logarithmic import logarithmic
from experiments.drawings.made import Made
from experiments.tables.config import FigureConfig, RowConfig
from experiments.tables.figures import DPI, GREY, save
from experiments.tables.parsing import Section
from experiments.values import Value


def draw_plane(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One panel per value of the setting ``panel``, one colour and shape per value of ``series``.

    The figure's parameters: ``x`` and ``y``, metrics; ``series``, a setting, the arm if absent; ``panel``, a
    setting or absent; ``y_minus_baseline``: whether y is the paired difference to the row's baseline;
    ``connect``: whether the rows of a series are joined in their order; ``log_x``; ``y_title``, by scale, in
    place of the column's; ``caption``.
    """
    spec = Section(figure.parameters, f"figure {figure.name}")
    x, y, panel = spec.take("x", str), spec.take("y", str), spec.optional("panel", str, None)
    minus, connect = spec.flag("y_minus_baseline", False), spec.flag("connect", False)
    series, log_x = spec.optional("series", str, "arm"), spec.flag("log_x", False)
    y_titles, caption = spec.optional("y_title", Mapping, {}), spec.take("caption", str)
    spec.finish()
    titles = {column.key: column.title for column in made.config.columns}
    titles[y] = y_titles.get(made.scale.name, titles.get(y, y))
    rows = [
        row
        for row in made.rows
        if {x, y} <= made.measured[row.id].blocks.keys() and (not minus or row.baseline is not None)
    ]
    panels: dict[object, dict[str, list[RowConfig]]] = {}
    for row in rows:
        place = made.settings(row).get(panel) if panel else None
        name = str(made.settings(row)[series])
        panels.setdefault(place, {}).setdefault(name, []).append(row)
    arms = list(dict.fromkeys(str(made.settings(row)[series]) for row in rows))
    across = legend_columns(arms, max(4.2 * len(panels), 5.0))
    foot = 0.2 * -(-len(arms) // across) + 0.15
    drawing = Figure(figsize=(max(4.2 * len(panels), 5.0), 3.6 + foot), dpi=DPI)
    for i, (place, members) in enumerate(panels.items()):
        axes = drawing.add_subplot(1, len(panels), i + 1)
        for arm, own in members.items():
            k = arms.index(arm)
            across_x = [value_of(made, row, x, None) for row in own]
            along_y = [value_of(made, row, y, "difference" if minus else None) for row in own]
            axes.errorbar(
                [v.value for v in across_x], [v.value for v in along_y], xerr=spread(across_x),
                yerr=spread(along_y), color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)],
                markersize=4.5, linestyle="-" if connect else "none", linewidth=0.9, elinewidth=0.7,
                capsize=1.5, label=arm, alpha=0.9,
            )  # fmt: skip
        if minus:
            axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
        axes.set_xlabel(titles.get(x, x), fontsize=9)
        axes.set_ylabel(titles[y] + (" − baseline" if minus else ""), fontsize=9)
        if place is not None:
            axes.set_title(str(place), fontsize=9)
        if log_x:
            logarithmic(axes.xaxis)
        axes.grid(color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    handles: dict[str, Any] = {}
    for axes in drawing.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    drawing.tight_layout(rect=(0, foot / drawing.get_figheight(), 1, 1))
    drawing.legend(
        list(handles.values()), list(handles), loc="lower center", ncols=across, frameon=False, fontsize=8
    )
    save(drawing, path)
    return str(caption)


def spread(values: list[Value]) -> list[list[float]]:
    """Lengths of the error bars below and above."""
    return [
        [0.0 if v.low is None else v.value - v.low for v in values],
        [0.0 if v.high is None else v.high - v.value for v in values],
    ]
