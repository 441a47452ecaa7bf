"""What a loaded checkpoint is, in lines for a reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from torch import nn

from skiptune.checkpoints.building.assemble import innermost
from skiptune.checkpoints.building.load import Checkpoint
from skiptune.denoisers.consistency import ConsistencyDenoiser
from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.discrete import DiscreteDenoiser
from skiptune.denoisers.guidance import ClassifierFreeGuidance
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions.sites import SkipSite, find_skip_sites

PRECONDITIONING = {
    "EDMPrecond": "EDM: unit variance of input and target, time ln(sigma)/4",
    "ConsistencyPrecond": "consistency: the identity at the lowest sigma, time ln(sigma)/4",
    "EDM2Precond": "EDM: unit variance of input and target, time ln(sigma)/4",
    "VPPrecond": "variance preserving: predicts the noise, linear beta",
    "VEPrecond": "variance exploding: predicts the noise, time ln(sigma/2)",
    "iDDPMPrecond": "improved DDPM: predicts the noise, cosine schedule",
}


def report(checkpoint: Checkpoint) -> list[str]:
    """Family, arguments, sizes, preconditioning, noise levels, labels, skip sites, and what was assumed."""
    denoiser = checkpoint.denoiser
    inner = innermost(denoiser)
    lines = [
        f"family: {checkpoint.family}",
        *arguments(checkpoint.description),
        f"parameters: {count(inner):,} in {storage(inner)}",
        f"preconditioning: {preconditioning(inner)}",
        f"sigma: {inner.sigma_min:g} to {inner.sigma_max:g}",
        f"image: {' x '.join(map(str, inner.image_shape))}",
        f"labels: {labels(denoiser)}",
    ]
    if isinstance(denoiser, LatentDenoiser):
        first_stage = denoiser.get_submodule("autoencoder")
        name = type(first_stage).__name__
        lines.append(
            f"autoencoder: {name}, {count(first_stage):,} parameters, latents times {denoiser.scale:g}"
        )
    lines += sites_table(find_sites(denoiser))
    if checkpoint.left_out:
        rest = ", ".join(f"{name} ({number})" for name, number in checkpoint.left_out.items())
        lines.append(f"left out of the network: {rest}")
    lines += [f"assumed, the file does not say: {line}" for line in checkpoint.assumed]
    return lines


def arguments(description: dict[str, Any]) -> list[str]:
    """The description, one argument a line."""
    lines = [f"class: {description['class']}", "arguments:"]
    for name, value in description["kwargs"].items():
        if isinstance(value, dict) and "kwargs" in value:
            lines.append(f"  {name}: {value['class']}")
            lines += [f"    {key}: {json.dumps(item)}" for key, item in value["kwargs"].items()]
        else:
            lines.append(f"  {name}: {json.dumps(value)}")
    return lines


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def storage(module: nn.Module) -> str:
    kinds = sorted({str(parameter.dtype).removeprefix("torch.") for parameter in module.parameters()})
    return ", ".join(kinds)


def preconditioning(denoiser: Denoiser) -> str:
    """How the denoiser is made of its network, in words."""
    if isinstance(denoiser, DiscreteDenoiser):
        target = {"epsilon": "the noise", "v": "the velocity"}[denoiser.prediction]
        return f"variance preserving: predicts {target} at {denoiser.num_timesteps} times"
    if isinstance(denoiser, ConsistencyDenoiser):
        kind = "consistency: the identity at the lowest sigma" if denoiser.distillation else "EDM"
        return f"{kind}, time 250 ln(sigma)"
    return PRECONDITIONING[type(denoiser).__name__]


def labels(denoiser: Denoiser) -> str:
    while isinstance(denoiser, LatentDenoiser):
        denoiser = denoiser.model
    if isinstance(denoiser, ClassifierFreeGuidance) and denoiser.null is not None:
        return (
            f"{denoiser.num_classes} classes and the null class {denoiser.null}, guidance {denoiser.scale:g}"
        )
    return f"{denoiser.num_classes} classes" if denoiser.num_classes else "none, unconditional"


def find_sites(denoiser: Denoiser) -> Sequence[SkipSite]:
    """The skip sites; none where the network was built without skips."""
    try:
        return find_skip_sites(denoiser)
    except SkiptuneError:
        return ()


def sites_table(sites: Sequence[SkipSite]) -> list[str]:
    """The skip connections from bottom to top, with their channel splits."""
    equal = sum(site.matching for site in sites)
    lines = [f"skip connections: {len(sites)}, {equal} with equally many channels from both sides"]
    if not sites:
        return lines
    rows = [("  i", "block", "pixels", "u", "d", "equal", "norm group over both")]
    for site in sites:
        pixels = "" if site.resolution is None else str(site.resolution)
        equal_text = "yes" if site.matching else "no"
        straddling = {True: "yes", False: "no", None: "no norm"}[straddles(site)]
        row = (f"{site.index:3}", site.name, pixels, str(site.u_channels), str(site.d_channels))
        rows.append((*row, equal_text, straddling))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return lines + [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def straddles(site: SkipSite) -> bool | None:
    """Whether a normalisation group holds channels of u and of d; None where there is no group norm."""
    groups = getattr(site.norm, "num_groups", None)
    if groups is None:
        return None
    return bool(site.u_channels % ((site.u_channels + site.d_channels) // groups))
