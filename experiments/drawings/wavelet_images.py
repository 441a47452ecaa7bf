"""Example images and the four bands of their wavelet transform (Skip-Tuning, Figure 9)."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from experiments.drawings.made import Made
from experiments.tables.config import FigureConfig
from experiments.tables.figures import DPI, save
from skiptune.data import load_dataset
from skiptune.data.images import from_uint8
from skiptune.evaluation.wavelets import wavelet_bands

SHOWN = 4


def draw_wavelet_images(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """The first real images of the report seeds, one a row, and their bands; details around grey."""
    dataset = load_dataset(made.scale.role(made.rows[0].role).model["dataset"])
    size = dataset.size("reference")
    images, _ = dataset.batch([seed % size for seed in made.scale.report.seeds[:SHOWN]], "reference")
    bands = {"image": from_uint8(images), **wavelet_bands(from_uint8(images))}
    drawing = Figure(figsize=(1.5 * len(bands), 1.5 * SHOWN + 0.3), dpi=DPI)
    for column, (name, values) in enumerate(bands.items()):
        low, high = (
            (-1.0, 1.0) if name == "image" else (-float(values.abs().max()), float(values.abs().max()))
        )
        shown = ((values.double() - low) / (high - low)).clamp(0, 1)
        for row in range(SHOWN):
            axes = drawing.add_subplot(SHOWN, len(bands), row * len(bands) + column + 1)
            axes.imshow(torch.movedim(shown[row], 0, -1).expand(-1, -1, 3), interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, fontsize=9)
    drawing.tight_layout(pad=0.4)
    save(drawing, path)
    return "Real images and the four bands of their one-level bior1.3 transform, each in its own range."
