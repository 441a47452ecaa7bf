"""rho over the steps of a sampler for the two time directions (Skip-Tuning, Figure 11)."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from experiments.drawings.lines import COLOURS
from experiments.drawings.made import Made
from experiments.tables.config import FigureConfig
from experiments.tables.figures import DPI, save
from skiptune.interventions.build import complete_settings, make_skip_tuning
from skiptune.samplers import make_sampler


def draw_time_schedules(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One line per row with a schedule in time: rho at the bottom at every positive level of its sampler."""
    drawing = Figure(figsize=(4.6, 3.2), dpi=DPI)
    axes = drawing.add_subplot()
    rows = [row for row in made.rows if row.intervention.get("time_direction")]
    for row, colour in zip(rows, COLOURS, strict=False):
        sampler = make_sampler(**made.scale.sampler(row.sampler))
        levels = [float(level) for level in sampler.sigmas if level > 0]
        (schedule,) = make_skip_tuning(complete_settings(row.intervention), levels).schedules
        weight = schedule.weight(torch.tensor(levels, dtype=torch.float64))
        rho = 1 + weight * (row.intervention["rho_bottom"] - 1)
        # Time 0 is the clean end, the last level of the sampler.
        axes.plot(range(len(levels)), rho.flip(0), color=colour, marker="o", markersize=4, label=row.label)
    axes.set_xlabel("step, from data (0) to noise", fontsize=9)
    axes.set_ylabel("ρ at the bottom", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    drawing.tight_layout()
    save(drawing, path)
    return "ρ at the bottom over the steps of the sampler, for both directions in time."
