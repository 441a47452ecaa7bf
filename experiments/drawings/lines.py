"""Metrics of the rows against one of their settings, as lines with 95% intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawings.logarithmic import logarithmic
from experiments.drawings.made import Made
from experiments.tables.config import FigureConfig, RowConfig
from experiments.tables.figures import BLUE, DPI, GREEN, GREY, ORANGE, save
from experiments.tables.parsing import Section
from experiments.values import Value
from skiptune.errors import SkiptuneError

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "black", GREY)
MARKERS = "osD^vP*X"
VERSUS = {None: "", "ratio": " ÷ baseline", "difference": " − baseline"}


def draw_lines(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One panel per metric of ``y`` and value of the setting ``panel``, one line per value of ``series``.

    The figure's parameters: ``x`` a setting; ``y`` metrics; ``series`` and ``panel`` settings or absent;
    ``arms`` of the rows to take, all if absent; ``over_baseline``: ratios to the row's baseline, or
    ``minus_baseline``: differences, paired by seed block or prompt, in place of values, for rows that have
    one; ``level_arm``: rows drawn as dashed lines across their panel; ``log_x``, ``log_y``; ``x_title``;
    ``caption``.
    """
    spec = Section(figure.parameters, f"figure {figure.name}")
    x, ys = spec.take("x", str), spec.take("y", Sequence)
    series, panel = spec.optional("series", str, None), spec.optional("panel", str, None)
    arms = spec.optional("arms", Sequence, None)
    log_x, log_y = spec.flag("log_x", False), spec.flag("log_y", False)
    versus = "ratio" if spec.flag("over_baseline", False) else None
    if spec.flag("minus_baseline", False):
        versus = "difference"
    level_arm = spec.optional("level_arm", str, None)
    x_title, caption = spec.optional("x_title", str, x), spec.take("caption", str)
    spec.finish()
    rows = [row for row in made.rows if arms is None or row.arm in arms]
    levels = [row for row in made.rows if level_arm is not None and row.arm == level_arm]
    rows = [row for row in rows if row not in levels and (versus is None or row.baseline is not None)]
    titles = {column.key: column.title for column in made.config.columns}
    values = list(dict.fromkeys(made.settings(row).get(panel) for row in rows)) if panel else [None]
    panels = [(y, value) for y in ys for value in values]
    # Panels of one metric stand side by side; four of them two by two.
    side_by_side = len(values) if len(ys) > 1 and len(values) in (2, 3) else 3
    columns = 2 if len(panels) == 4 else min(len(panels), side_by_side)
    lines = -(-len(panels) // columns)
    names = dict.fromkeys(made.settings(row).get(series) if series else None for row in rows)
    looks = dict(zip(names, cycle(zip(COLOURS, MARKERS, strict=True)), strict=False))
    drawing = Figure(figsize=(max(3.4 * columns, 4.6), 2.8 * lines + 0.5), dpi=DPI)
    for i, (y, value) in enumerate(panels):
        axes = drawing.add_subplot(lines, columns, i + 1)
        chosen = [row for row in rows if panel is None or made.settings(row).get(panel) == value]
        _panel(axes, made, chosen, x, y, series, looks, versus)
        for row in levels:
            if panel is None or made.settings(row).get(panel) == value:
                at = made.measured[row.id].value(y).value
                axes.axhline(at, color=GREY, linewidth=1.2, linestyle="--", label=row.arm)
        axes.set_xlabel(titles.get(x_title, x_title), fontsize=9)
        axes.set_ylabel(titles.get(y, y) + VERSUS[versus], fontsize=9)
        if panel is not None:
            axes.set_title(f"{titles.get(panel, panel)} = {value}", fontsize=9)
        if log_x:
            settings = (made.settings(row) for row in chosen)
            logarithmic(axes.xaxis, (number(given[x], x) for given in settings if x in given))
        if log_y:
            logarithmic(axes.yaxis)
    handles: dict[str, Any] = {}
    for axes in drawing.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    height = drawing.get_figheight()
    across = legend_columns(list(handles), drawing.get_figwidth())
    titled = series not in (None, "arm")
    foot = 0.18 * -(-len(handles) // across) + 0.2 * titled + 0.15 if series is not None else 0.0
    drawing.tight_layout(rect=(0, foot / height, 1, 1))
    if series is not None:
        drawing.legend(
            handles.values(), handles.keys(), loc="lower center", ncols=across, frameon=False, fontsize=8,
            title=titles.get(series, series) if titled else None, title_fontsize=8,
        )  # fmt: skip
    save(drawing, path)
    return str(caption)


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of these labels, in 8 points, a legend of that width in inches holds: 1 to 4."""
    return max(1, min(4, int(width / (0.55 + 0.065 * max((len(label) for label in labels), default=0)))))


def _panel(
    axes: Axes,
    made: Made,
    rows: Sequence[RowConfig],
    x: str,
    y: str,
    series: str | None,
    looks: Mapping[object, tuple[str, str]],
    versus: str | None,
) -> None:
    """The lines of one panel; ``looks``: value of ``series`` -> its colour and marker in every panel."""
    groups: dict[object, list[RowConfig]] = {}
    for row in rows:
        settings: Mapping[str, object] = made.settings(row)
        if x in settings and y in made.measured[row.id].blocks:
            groups.setdefault(settings.get(series) if series else None, []).append(row)
    for name, members in groups.items():
        colour, marker = looks[name]
        points = sorted(
            ((number(made.settings(row)[x], x), value_of(made, row, y, versus)) for row in members),
            key=lambda point: point[0],
        )
        spread = [
            [0.0 if v.low is None else v.value - v.low for _, v in points],
            [0.0 if v.high is None else v.high - v.value for _, v in points],
        ]
        axes.errorbar(
            [p for p, _ in points], [v.value for _, v in points], yerr=spread, color=colour, marker=marker,
            markersize=4, linewidth=1.2, capsize=2, elinewidth=1, label=str(name),
        )  # fmt: skip
    if versus is not None:
        axes.axhline(1 if versus == "ratio" else 0, color=GREY, linewidth=1, linestyle=":")
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def value_of(made: Made, row: RowConfig, metric: str, versus: str | None) -> Value:
    """The row's value; its ratio to the baseline's, or difference, with the interval of the pairs."""
    own = made.measured[row.id]
    if versus is None:
        return own.value(metric)
    assert row.baseline is not None
    return own.over(made.measured[row.baseline], metric, ratio=versus == "ratio")


def number(value: object, setting: str) -> float:
    """The value as a place on an axis. Raises SkiptuneError for a text, true or false."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SkiptuneError(f"x of a figure of lines must be a number, but {setting} is {value!r}")
    return float(value)
