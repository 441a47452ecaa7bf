"""A search for rho: everything tried, and the report, against every free setting."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawings.logarithmic import logarithmic
from experiments.drawings.made import sampler_title
from experiments.tables.figures import BLUE, DPI, GREY, save
from experiments.tuning.tune import Tuned

TITLES = {"rho_bottom": "ρ bottom", "rho_top": "ρ top", "time_direction": "direction in time"}


def draw_tuning(path: Path, tuned: Tuned) -> None:
    """One panel per free setting, the metric against it; written as PNG."""
    free = tuned.task.space.free
    columns = 2 if len(free) == 1 else 4
    foot = 0.62  # inches, for the legend below the panels
    width, height = max(3.5 * len(free), 4.6), 2.9 + foot
    figure = Figure(figsize=(width, height), dpi=DPI)
    for i, name in enumerate(free):
        axes = figure.add_subplot(1, len(free), i + 1)
        _panel(axes, tuned, name)
        axes.set_ylabel(tuned.task.metric.upper() if i == 0 else "")
    name = tuned.task.settings.sampler["name"]
    figure.suptitle(f"{tuned.task.settings.model.name}, {sampler_title(name)}, {tuned.nfe} NFE", fontsize=10)
    figure.tight_layout(rect=(0, foot / height, 1, 1), w_pad=1.6)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0.2 / height), ncols=columns,
        frameon=False, fontsize=8, handlelength=1.6, columnspacing=1.6,
    )  # fmt: skip
    select, report = len(tuned.task.effort.seeds.seeds), tuned.task.report.size
    note = f"open: {select:,} selection images; else: blocks of {report:,} report images, 95% intervals"
    figure.text(0.5, 0.08 / height, note, ha="center", va="bottom", fontsize=7, color="0.35")
    save(figure, path)


def _panel(axes: Axes, tuned: Tuned, name: str) -> None:
    task, trials = tuned.task, tuned.search.trials
    values = task.space.choices[name]
    words = not all(isinstance(value, float) for value in values)
    place = {value: float(i) if words else float(str(value)) for i, value in enumerate(values)}
    at = [place[trial.settings[name]] for trial in trials]
    points = sorted(zip(at, (trial.value for trial in trials), strict=True))
    # A line only where it is a curve: with several free settings the others differ along it.
    dashes = (0, (4, 2)) if len(task.space.free) == 1 else "none"
    axes.plot(
        [x for x, _ in points], [y for _, y in points], color=GREY, marker="o", markersize=4, linewidth=1,
        markerfacecolor="white", linestyle=dashes, label="tried", zorder=2,
    )  # fmt: skip
    untouched, chosen = (result.value(task.metric) for result in (tuned.untouched, tuned.chosen))
    if untouched.low is not None and untouched.high is not None:
        axes.axhspan(untouched.low, untouched.high, color="black", alpha=0.08, linewidth=0)
    axes.axhline(untouched.value, color="black", linewidth=0.9, linestyle=":", label="untouched, ρ = 1")
    if chosen.low is not None and chosen.high is not None:
        axes.errorbar(
            [place[tuned.search.chosen.settings[name]]], [chosen.value],
            yerr=[[chosen.value - chosen.low], [chosen.high - chosen.value]], color=BLUE, marker="o",
            markersize=5, capsize=3, elinewidth=1.3, linestyle="none", label="chosen", zorder=4,
        )  # fmt: skip
    if words:
        axes.set_xticks(list(place.values()), ["none" if value is None else str(value) for value in place])
        axes.margins(x=0.2)
    shown = [y for _, y in points] + [chosen.value, untouched.value]
    if min(shown) > 0 and max(shown) > 5 * min(shown):
        logarithmic(axes.yaxis)
    axes.set_xlabel(TITLES[name])
    axes.margins(y=0.12)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
