"""What a table would cost: models, files, images, network evaluations, GPU-hours. Nothing is computed."""

from __future__ import annotations

import torch
from torch import Tensor

from experiments.scale import Scale
from experiments.tables.config import TableConfig
from skiptune.samplers import make_sampler

# An assumption about one data-centre GPU in half precision, stated wherever it is used.
SUSTAINED_TFLOPS = 60.0


def expected_nfe(scale: Scale, sampler: dict[str, object]) -> int:
    """Network evaluations per image of a sampler: counted by stepping it on a stand-in, the identity."""
    made = make_sampler(**scale.sampler(sampler))
    calls = 0

    def count(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x

    state = made.start(torch.zeros(1, 1, 1, 1))
    for _ in range(made.num_steps):
        state = made.step(count, state, lambda step: torch.zeros(1, 1, 1, 1))
    return calls


def dry_run(config: TableConfig, scale: Scale) -> str:
    """A few lines of text: what would run, which files it needs, how many images and GPU-hours."""
    lines = [f"{config.paper} table {config.table} at scale {scale.name}: {config.title}"]
    total_images, total_petaflop, files = 0, 0.0, {}
    for row in config.rows_at(scale.name):
        role = scale.role(row.role)
        tuned = config.tuning.grids.get(row.id, ()) if config.tuning else ()
        images = len(scale.report.seeds) + len(tuned) * len(scale.select.seeds)
        nfe = expected_nfe(scale, dict(row.sampler))
        petaflop = images * nfe * role.model.get("gflop_per_nfe", 0.0) / 1e6
        total_images, total_petaflop = total_images + images, total_petaflop + petaflop
        cost = f", {hours(petaflop):.1f} GPU-h" if petaflop else ""
        lines.append(f"  {row.label}: {role.model['name']}, {images} images x {nfe} NFE{cost}")
        for item, key in ((role.model, "file"), (role.features, "file")):
            if key in item:
                files[item[key]] = item["url"]
        if role.reference:
            files[role.reference] = role.reference_url
    lines.append(f"  images in total: {total_images}")
    if total_petaflop:
        lines.append(
            f"  estimate: {hours(total_petaflop):.1f} GPU-hours at {SUSTAINED_TFLOPS:.0f} TFLOP/s sustained "
            "(from the operation count, not measured)"
        )
    for name, url in files.items():
        present = "present" if (scale.checkpoints / name).is_file() else "missing"
        lines.append(f"  file {scale.checkpoints / name} ({present}): {url}")
    if not files:
        lines.append("  files: none to download, all weights are in the repository")
    return "\n".join(lines)


def hours(petaflop: float) -> float:
    return petaflop * 1e3 / SUSTAINED_TFLOPS / 3600
