"""Images with and without the intervention, from equal seeds."""

from __future__ import annotations

from pathlib import Path

from experiments.drawings.made import Made, sampler_title
from experiments.samples import SampleMeasurement
from experiments.tables.config import FigureConfig, RowConfig
from experiments.tables.figures import sample_grid
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.runtime.sampling import Samples

SHOWN = 32


def draw_sample_pair(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """Baseline and tuned images: of the row that the figure names, else of that with the lowest ratio."""
    metric = made.config.metrics[0]
    row = (
        made.config.row(figure.parameters["row"])
        if "row" in figure.parameters
        else lowest_ratio(made, metric)
    )
    if row is None or row.baseline is None:
        return None
    baseline, tuned = (stored_samples(made, id) for id in (row.baseline, row.id))
    names = getattr(load_dataset(made.scale.role(row.role).model["dataset"]), "class_names", None)
    labels = (
        []
        if names is None or tuned.image_labels is None
        else [names[i] for i in tuned.image_labels[:SHOWN].tolist()]
    )
    sampler = sampler_title(row.sampler["name"])
    rho = made.settings(row).get("rho_bottom")
    titles = (
        (f"{sampler}, ρ = 1", f"{sampler}, ρ = {rho:g} at the bottom")
        if isinstance(rho, int | float)
        else (made.config.row(row.baseline).label, row.label)
    )
    sample_grid(path, baseline.images[:SHOWN], tuned.images[:SHOWN], labels, titles=titles)
    names_of_pair = f"{made.config.row(row.baseline).label} | {row.label}"
    chosen = "" if "row" in figure.parameters else f", of the pair with the lowest {metric.upper()} ratio"
    return f"Samples from equal seeds{chosen}: {names_of_pair}."


def stored_samples(made: Made, row: str) -> Samples:
    """The samples of a row. Raises SkiptuneError for a row of another kind of measurement."""
    condition = made.measurements[row]
    if not isinstance(condition, SampleMeasurement):
        raise SkiptuneError(f"row {row!r} generates no images; name another in the figure")
    return condition.samples(made.bench.store)


def lowest_ratio(made: Made, metric: str) -> RowConfig | None:
    """The row whose metric is lowest over that of its baseline."""
    ratios = {
        row.id: made.measured[row.id].value(metric).value / made.measured[row.baseline].value(metric).value
        for row in made.rows
        if row.baseline is not None
        and all(metric in made.measured[id].blocks for id in (row.id, row.baseline) if id in made.measured)
        and row.baseline in made.measured
    }
    return made.config.row(min(ratios, key=lambda id: ratios[id])) if ratios else None
