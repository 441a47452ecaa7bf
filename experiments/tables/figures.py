"""Figures beside a table: FID against rho, and images with and without the intervention from equal seeds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from skiptune.errors import SkiptuneError
from skiptune.runtime.files import write_atomic

# Okabe and Ito's colour-blind-safe palette; shapes and fills carry the meaning too.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
DPI = 200


@dataclass(frozen=True)
class RhoPoint:
    """A metric at one rho, with its 95% interval where there is one."""

    rho: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RhoCurve:
    """The points of one sampler: `selection` from few images, used to choose rho; `report` from other seeds.

    `selected` and `paper` are the rho chosen here and the paper's; the baseline is rho = 1. `x_title`: what
    the factor is called.
    """

    title: str
    selection: tuple[RhoPoint, ...]
    report: tuple[RhoPoint, ...]
    selected: float | None = None
    paper: float | None = None
    x_title: str = "ρ bottom"


def rho_curve(
    path: Path,
    curves: Sequence[RhoCurve],
    *,
    metric: str = "FID",
    selection_note: str = "selection seeds",
    report_note: str = "report seeds",
) -> None:
    """Writes the metric against rho as PNG, one panel per sampler, at most four a line.

    Raises SkiptuneError without points.
    """
    if not curves or any(not (curve.selection or curve.report) for curve in curves):
        raise SkiptuneError("a rho curve needs at least one sampler and one point for each")
    foot = 0.55 if len(curves) > 1 else 0.75  # inches, for the legend below the panels
    columns = min(len(curves), 4)
    lines = -(-len(curves) // columns)
    width, height = max(3.5 * columns, 4.6), 2.9 * lines + foot
    figure = Figure(figsize=(width, height), dpi=DPI)
    for i, curve in enumerate(curves):
        axes = figure.add_subplot(lines, columns, i + 1)
        _draw_curve(axes, curve)
        axes.set_ylabel(metric if i % columns == 0 else "")
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.tight_layout(rect=(0, foot / height, 1, 1), w_pad=1.6)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.2 / height),
        ncols=len(handles) if len(curves) > 1 else 2,
        frameon=False,
        fontsize=8,
        handlelength=1.6,
        columnspacing=1.6,
    )
    note = f"open: {selection_note}; filled: {report_note}; 95% intervals"
    figure.text(0.5, 0.08 / height, note, ha="center", va="bottom", fontsize=7, color="0.35")
    save(figure, path)


def _draw_curve(axes: Axes, curve: RhoCurve) -> None:
    report = {point.rho: point for point in curve.report}
    if curve.selection:
        points = sorted(curve.selection, key=lambda point: point.rho)
        grid, values = [p.rho for p in points], [p.value for p in points]
        low = [p.low for p in points if p.low is not None]
        high = [p.high for p in points if p.high is not None]
        if len(low) == len(high) == len(points):
            axes.fill_between(grid, low, high, color=GREY, alpha=0.15, linewidth=0)
        axes.plot(
            grid,
            values,
            color=GREY,
            linewidth=1,
            linestyle=(0, (4, 2)),
            marker="o",
            markersize=4,
            markerfacecolor="white",
            label="search",
            zorder=2,
        )
    if 1.0 in report:
        axes.axhline(report[1.0].value, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
    # Sizes let a selected rho be seen on top of an equal one of the paper.
    marks: tuple[tuple[float | None, str, float, str, str], ...] = (
        (1.0, "s", 5.5, "black", "baseline, ρ = 1"),
        (curve.paper, "D", 7, ORANGE, "paper's ρ"),
        (curve.selected, "o", 5, BLUE, "ρ selected here"),
    )
    known = [mark[0] for mark in marks]
    others = [(point.rho, "^", 5.5, GREEN, "other ρ") for point in curve.report if point.rho not in known]
    for rho, marker, size, colour, name in [*marks, *others]:
        point = None if rho is None else report.get(rho)
        if point is None:
            continue
        spread = None
        if point.low is not None and point.high is not None:
            spread = [[point.value - point.low], [point.high - point.value]]
        axes.errorbar(
            [point.rho],
            [point.value],
            yerr=spread,
            color=colour,
            marker=marker,
            markersize=size,
            capsize=3,
            elinewidth=1.3,
            linestyle="none",
            label=name,
            zorder=3,
        )
    axes.set_title(curve.title, fontsize=10)
    axes.set_xlabel(curve.x_title)
    axes.margins(y=0.12)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def sample_grid(
    path: Path,
    baseline: Any,
    tuned: Any,
    labels: Sequence[str] = (),
    *,
    columns: int = 8,
    titles: tuple[str, str] = ("baseline (ρ = 1)", "Skip-Tuning"),
    image_size: int = 96,
) -> None:
    """Writes two grids side by side, the same seed at the same place in both (PNG).

    Args:
        baseline, tuned: uint8 [N, C, H, W] with C = 1 or 3 (tensors or arrays), equal seeds in equal order.
        labels: N short texts (class names) printed above the images, or none.
        image_size: pixels per image at least; images are enlarged by a whole factor, nearest neighbour.

    Raises SkiptuneError for images of another kind or a wrong number of labels.
    """
    blocks = [as_pictures(baseline), as_pictures(tuned)]
    count = len(blocks[0])
    if blocks[0].shape != blocks[1].shape:
        shapes = " and ".join(str(block.shape) for block in blocks)
        raise SkiptuneError(f"the two grids differ, images {shapes}: use equal seeds")
    if labels and len(labels) != count:
        raise SkiptuneError(f"{len(labels)} labels for {count} images; give one per image, or none")
    columns = min(columns, count)
    rows, height, width = -(-count // columns), *blocks[0].shape[1:3]
    factor = max(1, -(-image_size // max(height, width)))
    height, width = height * factor, width * factor
    # Everything is placed in whole pixels, so that no image pixel is resampled.
    gap, text, top, middle = 6, 26 if labels else 0, 44, 40
    block_width, row = columns * (width + gap) - gap, height + text + gap
    total = (2 * gap + 2 * block_width + middle, top + rows * row)
    canvas = np.full((total[1], total[0], 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for b, (block, title) in enumerate(zip(blocks, titles, strict=True)):
        left = gap + b * (block_width + middle)
        axes.text(left + block_width / 2, top / 2, title, ha="center", va="center", fontsize=9)
        for i, image in enumerate(block):
            x, y = left + i % columns * (width + gap), top + i // columns * row + text
            canvas[y : y + height, x : x + width] = image.repeat(factor, axis=0).repeat(factor, axis=1)
            if labels:
                axes.text(x + width / 2, y - 4, labels[i], ha="center", va="bottom", fontsize=6, color="0.35")
    axes.imshow(canvas, interpolation="none", extent=(0, total[0], total[1], 0), aspect="auto")
    save(figure, path)


def as_pictures(images: Any) -> np.ndarray:
    """uint8 [N, H, W, 3] from a uint8 [N, C, H, W] tensor or array."""
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] not in (1, 3) or len(array) == 0:
        raise SkiptuneError(
            f"a sample grid needs uint8 [N, 1|3, H, W] images, got {array.dtype} {array.shape}"
        )
    return np.broadcast_to(array.transpose(0, 2, 3, 1), (len(array), *array.shape[2:], 3))


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG; equal input gives equal bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    # Without the library's version in the file, equal input gives equal bytes.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
