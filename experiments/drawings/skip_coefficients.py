"""Learned skip coefficients by site, beside those set by hand (Skip-Tuning, Table 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.drawings.lines import COLOURS, MARKERS
from experiments.drawings.made import Made, sampler_title
from experiments.samples import SampleMeasurement
from experiments.tables.config import FigureConfig
from experiments.tables.figures import DPI, save
from skiptune.interventions import SkipSite, find_skip_sites
from skiptune.interventions.build import complete_settings, make_skip_tuning
from skiptune.runtime.networks import cached_model


def draw_skip_coefficients(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One line per learned variant, one per row whose Skip-Tuning was selected."""
    lines: dict[str, Sequence[float]] = {}
    for row in made.rows:
        condition = made.measurements[row.id]
        if "learned" in row.intervention and isinstance(condition, SampleMeasurement):
            lines.setdefault(
                f"learned, {row.intervention['learned']}", condition.settings.intervention["rho"]
            )
    if not lines:
        return None
    for id, found in made.searches.items():
        row, condition = made.config.row(id), made.measurements[id]
        if row.intervention["name"] == "skip_tuning" and isinstance(condition, SampleMeasurement):
            network = cached_model(condition.settings.model, condition.settings.device)
            name = f"by hand, {sampler_title(row.sampler['name'])} {made.measured[id].nfe} NFE"
            lines[name] = by_hand(row.resolved(found.selected), find_skip_sites(network))
    drawing = Figure(figsize=(4.8, 3.2), dpi=DPI)
    axes = drawing.add_subplot()
    for (name, rho), colour, marker in zip(lines.items(), cycle(COLOURS), cycle(MARKERS), strict=False):
        axes.plot(range(1, len(rho) + 1), rho, color=colour, marker=marker, markersize=4, label=name)
    axes.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xlabel("skip site, from the bottom to the top", fontsize=9)
    axes.set_ylabel("ρ", fontsize=9)
    axes.set_xticks(range(1, max(map(len, lines.values())) + 1))
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    drawing.tight_layout()
    save(drawing, path)
    return "Skip coefficients by site: learned on the feature loss, and those selected by hand."


def by_hand(settings: Mapping[str, Any], sites: Sequence[SkipSite]) -> tuple[float, ...]:
    """Skip-Tuning's coefficient of every site where a schedule, if there is one, lets it act in full."""
    timeless = {**complete_settings(settings), "time_direction": None}
    return make_skip_tuning(timeless, ()).coefficients(sites)
