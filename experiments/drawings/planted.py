"""Rankings of blocks against what was planted in them, and against direct measures (Importance Probe)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawings.lines import COLOURS, MARKERS
from experiments.drawings.made import Made
from experiments.importance_probe.cases import CaseMeans
from experiments.importance_probe.rankings import TITLES
from experiments.tables.config import FigureConfig, RowConfig
from experiments.tables.figures import DPI, GREY, save
from experiments.tables.parsing import Section
from skiptune.evaluation.intervals import block_interval


def draw_planted(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """Panels for each arm of ``arms``: the place that every ranking gives to the block of the k-th lowest
    gain, where gains were planted, and Kendall's tau of every ranking with each metric of ``taus``.

    Parameters: ``arms``; ``taus``, metrics with their titles; ``caption``. Intervals of 95% over cases.
    """
    spec = Section(figure.parameters, f"figure {figure.name}")
    arms, taus = spec.take("arms", Sequence), spec.take("taus", Mapping)
    caption = spec.take("caption", str)
    spec.finish()
    arms = [arm for arm in arms if any(row.arm == arm for row in made.rows)]
    if not arms:
        return None
    of_arm = {arm: [row for row in made.rows if row.arm == arm] for arm in arms}
    panels = [(arm, draw) for arm, rows in of_arm.items() for draw in panels_of(rows, taus, made)]
    lines = -(-len(panels) // 2)
    drawing = Figure(figsize=(9.6, 3.1 * lines + 0.7), dpi=DPI)
    for i, (arm, draw) in enumerate(panels):
        axes = drawing.add_subplot(lines, 2, i + 1)
        draw(axes)
        axes.set_title(arm, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    handles, labels = drawing.axes[-1].get_legend_handles_labels()
    drawing.tight_layout(rect=(0, 0.6 / drawing.get_figheight(), 1, 1))
    drawing.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize=8)
    save(drawing, path)
    return str(caption)


def panels_of(rows: Sequence[RowConfig], taus: Mapping[str, str], made: Made) -> list[Callable[[Axes], None]]:
    """What is drawn for one arm."""
    agreement = partial(draw_taus, rows=rows, taus=taus, made=made)
    return (
        [partial(draw_places, rows=rows, made=made), agreement] if rows[0].measure["gains"] else [agreement]
    )


def draw_places(axes: Axes, rows: Sequence[RowConfig], made: Made) -> None:
    """Mean place by planted gain, one line a ranking; a ranking that finds what is planted is dotted."""
    gains = sorted(rows[0].measure["gains"])
    at = range(1, len(gains) + 1)
    for number, row in enumerate(rows):
        measured = made.measurements[row.id]
        assert isinstance(measured, CaseMeans)
        places = measured.stored("places", made.bench.store)
        found = [block_interval(column.tolist()) for column in places.unbind(dim=1)]
        axes.errorbar(
            at, [one.value for one in found],
            yerr=[[one.value - one.low for one in found], [one.high - one.value for one in found]],
            color=COLOURS[number], marker=MARKERS[number], markersize=4, linewidth=1.2, capsize=2,
        )  # fmt: skip
    axes.plot(at, at, color=GREY, linewidth=1, linestyle=":")
    axes.set_xticks(list(at), [f"{gain:g}" for gain in gains])
    axes.set_xlabel("planted: what the block's transformers add is multiplied by", fontsize=9)
    axes.set_ylabel("mean place in the ranking\n(1: least important)", fontsize=9)


def draw_taus(axes: Axes, rows: Sequence[RowConfig], taus: Mapping[str, str], made: Made) -> None:
    """One group of points for every measure, one point a ranking."""
    for number, row in enumerate(rows):
        known = [name for name in taus if name in made.measured[row.id].blocks]
        at = [list(taus).index(name) + 0.12 * (number - (len(rows) - 1) / 2) for name in known]
        found = [made.measured[row.id].value(name) for name in known]
        spread = [
            [0.0 if one.low is None else one.value - one.low for one in found],
            [0.0 if one.high is None else one.high - one.value for one in found],
        ]
        axes.errorbar(
            at, [one.value for one in found], yerr=spread, color=COLOURS[number], marker=MARKERS[number],
            markersize=4, linestyle="", capsize=2, elinewidth=1, label=TITLES[row.measure["ranking"]],
        )  # fmt: skip
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    axes.set_xticks(range(len(taus)), list(taus.values()))
    axes.set_ylim(-1.05, 1.05)
    axes.set_ylabel("Kendall's tau", fontsize=9)
