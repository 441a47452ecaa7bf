"""A metric against rho: the search on the selection seeds, and the rows on the report seeds."""

from __future__ import annotations

from pathlib import Path

from experiments.drawings.made import Made, sampler_title
from experiments.tables.config import TUNED, FigureConfig, RowConfig
from experiments.tables.figures import RhoCurve, RhoPoint, rho_curve


def draw_rho_curves(path: Path, figure: FigureConfig, made: Made) -> str | None:
    """One panel per tuned row, with the rows of the same role and sampler."""
    config, searches = made.config, made.searches
    if not searches or config.tuning is None:
        return None
    drawn, metric = [], config.tuning.metric
    tuned_rows = [config.row(id) for id in searches]
    mixed = len({(row.role, row.intervention["name"]) for row in tuned_rows}) > 1
    for id, found in searches.items():
        row = config.row(id)
        report, paper_rho = [], None
        for other in made.rows:
            if other.sampler == row.sampler and other.role == row.role and alike(other, row):
                tuned = searches.get(other.id)
                rho = tuned.selected if tuned else other.intervention.get("rho_bottom", 1.0)
                value = made.measured[other.id].value(metric)
                report.append(RhoPoint(rho, value.value, value.low, value.high))
                if other.arm == "paper":
                    paper_rho = rho
        points = tuple(RhoPoint(rho, v.value, v.low, v.high) for rho, v in found.values.items())
        title = f"{sampler_title(row.sampler['name'])}, {made.measured[id].nfe} NFE"
        if mixed:
            title = f"{row.label.partition(' (')[0]}\n{made.measured[id].nfe} NFE"
        report_points = tuple(sorted(report, key=lambda p: p.rho))
        factors = [key for key, value in row.intervention.items() if value == TUNED]
        x_title = "ρ bottom" if factors == ["rho_bottom"] else ", ".join(factors)
        drawn.append(RhoCurve(title, points, report_points, found.selected, paper_rho, x_title))
    rho_curve(path, drawn, metric=metric.upper())
    edges = [config.row(id).label for id, found in searches.items() if found.at_edge]
    note = f" The best ρ is at the edge of those tried for: {', '.join(edges)}." if edges else ""
    sizes = made.scale.select.size, made.scale.report.size
    seen = f"ρ was selected on {sizes[0]:,} images of other seeds; rows are means of blocks of {sizes[1]:,}"
    level = ", and FID of fewer images is higher" if sizes[0] != sizes[1] and metric == "fid" else ""
    return f"{metric.upper()} against ρ at the bottom for each sampler; {seen}{level}." + note


def alike(row: RowConfig, tuned: RowConfig) -> bool:
    """Whether a row differs from the tuned one in rho at the bottom alone; the untouched network does."""
    if row.intervention.get("name") == "none":
        return True
    ends = [{"rho_bottom": 1.0, "rho_top": 1.0, **one.intervention} for one in (row, tuned)]
    return all(ends[0].get(key) == ends[1].get(key) for key in {*ends[0], *ends[1]} - {"rho_bottom"})
