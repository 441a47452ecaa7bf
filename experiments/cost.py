"""The dry run of a table: its models, files, images, network evaluations, GPU-hours, as text."""

from __future__ import annotations

from experiments.needs import SUSTAINED_TFLOPS, needs_of
from experiments.scale import Scale
from experiments.tables.config import TableConfig


def dry_run(config: TableConfig, scale: Scale) -> str:
    """A few lines of text: what would run, which files it needs, how many images and GPU-hours.

    Raises:
        SkiptuneError: as ``needs_of``.
    """
    needs = needs_of(config, scale)
    lines = [f"{config.paper} {config.kind} {config.number} at scale {scale.name}: {config.title}"]
    for row in needs.rows:
        cost = f", {row.gpu_hours:.1f} GPU-h" if row.gpu_hours else ""
        lines.append(f"  {row.label}: {row.model}, {row.images} images x {row.nfe:g} NFE{cost}")
    lines.append(f"  images in total: {needs.images}")
    if needs.gpu_hours:
        lines.append(
            f"  estimate: {needs.gpu_hours:.1f} GPU-hours at {SUSTAINED_TFLOPS:.0f} TFLOP/s sustained "
            "(from the operation count, not measured)"
        )
    for name, need in needs.files.items():
        present = "present" if (scale.checkpoints / name).exists() else "missing"
        lines.append(f"  file {scale.checkpoints / name} ({present}): {need.origin}")
    if not needs.files:
        lines.append("  files: none to download, all weights are in the repository")
    return "\n".join(lines)
