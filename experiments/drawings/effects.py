"""What rows gain over their baselines: paired differences or ratios with 95% intervals, one line a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.drawings.lines import COLOURS, MARKERS, legend_columns, value_of
from experiments.drawings.made import Made
from experiments.tables.config import FigureConfig, RowConfig
from experiments.tables.figures import DPI, GREY, save
from experiments.tables.parsing import Section
from skiptune.errors import SkiptuneError

WIDTH = 6.4  # inches


def draw_effects(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One line per row with a baseline, in the table's order from above, one mark per metric.

    The figure's parameters: ``metrics``; ``arms`` of the rows, all if absent; ``over_baseline``: in place of
    differences, ratios to baselines, of values that are all positive; ``linear_within``: of differences, the
    axis is logarithmic beyond that distance from 0, linear all along if absent; ``caption``.

    Raises:
        SkiptuneError: ``linear_within`` of ratios.
    """
    spec = Section(figure.parameters, f"figure {figure.name}")
    metrics, arms = spec.take("metrics", Sequence), spec.optional("arms", Sequence, None)
    linear_within, caption = spec.optional("linear_within", float, None), spec.take("caption", str)
    versus, nothing, said = "difference", 0, "less the baseline"
    if spec.flag("over_baseline", False):
        versus, nothing, said = "ratio", 1, "÷ baseline"
        if linear_within is not None:
            raise SkiptuneError(f"figure {figure.name}: linear_within is of differences, not of ratios")
    spec.finish()
    rows = [row for row in made.rows if row.baseline is not None and (arms is None or row.arm in arms)]
    if not rows:
        return None
    titles = {column.key: column.title for column in made.config.columns}
    names = [titles.get(metric, metric) for metric in metrics]
    across = legend_columns(names, WIDTH)
    foot = 0.12 + 0.18 * -(-len(names) // across) if len(metrics) > 1 else 0.0  # inches, for the legend
    height = 0.9 + 0.22 * len(rows) * max(1.0, 0.5 * len(metrics)) + foot
    drawing = Figure(figsize=(WIDTH, height), dpi=DPI)
    axes = drawing.add_subplot()
    shift = 0.6 / len(metrics)
    for k, (metric, name) in enumerate(zip(metrics, names, strict=True)):
        marked = [i for i, row in enumerate(rows) if versus != "ratio" or has_ratio(made, row, metric)]
        if not marked:
            continue
        values = [value_of(made, rows[i], metric, versus) for i in marked]
        spread = [
            [0.0 if v.low is None else v.value - v.low for v in values],
            [0.0 if v.high is None else v.high - v.value for v in values],
        ]
        places = [i + (k - (len(metrics) - 1) / 2) * shift for i in marked]
        axes.errorbar(
            [v.value for v in values], places, xerr=spread, color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)], markersize=4, linestyle="none", capsize=2, elinewidth=1,
            label=name,
        )  # fmt: skip
    axes.axvline(nothing, color=GREY, linewidth=1, linestyle=":")
    if linear_within is not None:
        axes.set_xscale("symlog", linthresh=linear_within)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(said, fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.tight_layout(rect=(0, foot / height, 1, 1))
    if len(metrics) > 1:
        drawing.legend(loc="lower center", ncols=across, frameon=False, fontsize=8)
    else:
        axes.set_xlabel(f"{names[0]} {said}", fontsize=9)
    save(drawing, path)
    return str(caption)


def has_ratio(made: Made, row: RowConfig, metric: str) -> bool:
    """Whether the row and its baseline are positive in every seed block; an unbiased MMD may not be."""
    assert row.baseline is not None
    return all(value > 0 for id in (row.id, row.baseline) for value in made.measured[id].blocks[metric])
