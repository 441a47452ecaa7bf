"""The layouts of official files: whose network it is, and its parameters under the names of our denoisers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from skiptune.checkpoints.reading.persistence import PersistentRecord, network_record
from skiptune.denoisers.autoencoders import autoencoder_state
from skiptune.denoisers.ddim import ddim_state
from skiptune.denoisers.preconditioning import PRECONDITIONINGS
from skiptune.errors import SkiptuneError

State = dict[str, Tensor]

# A name that every network of the family has and no other family; the first that is found counts.
MARKS = {
    "latent diffusion": "model.diffusion_model.time_embed.0.weight",
    "EDM2": "unet.emb_noise.weight",
    "EDM": "model.map_layer0.weight",
    "DDIM": "temb.dense.0.weight",
    "U-ViT": "patch_embed.proj.weight",
    "guided diffusion": "time_embed.0.weight",
    "autoencoder": "post_quant_conv.weight",
}
# The classes of our networks, by family.
CLASSES = {
    "latent diffusion": ("LatentUNet",),
    "EDM2": ("EDM2Precond",),
    "EDM": tuple(PRECONDITIONINGS),
    "DDIM": ("DDIMUNet",),
    "U-ViT": ("UViT",),
    "text to image": ("TextToImage",),
    "guided diffusion": ("ConsistencyDenoiser",),
}
# Parts of the state of a latent model: their names in the file and in a denoiser.
LATENT_PARTS = {"model.diffusion_model.": "model.", "cond_stage_model.": "embedding."}
FIRST_STAGE = "first_stage_model."
# What official latent models hold beside: averaged copies, and what follows from the noise schedule (the
# buffers of ldm/models/diffusion/ddpm.py); discriminator and averages of the first stage, see
# ``autoencoder_state``.
BESIDE = {
    "model_ema", "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2", "lvlb_weights", "logvar", "scale_factor",
}  # fmt: skip
NAMED = 3


@dataclass(frozen=True)
class Contents:
    """What a file holds.

    Attributes:
        family: one of ``CLASSES``.
        state: parameters and buffers under the names of the innermost denoiser.
        autoencoder: those of the first stage of a latent model, empty if it is not in the file.
        description: how the file says to build the network, ``None`` if it does not.
        assumed: what was assumed when the description was made.
        left_out: entries that are not of the network, by the beginning of their names.
    """

    family: str
    state: State
    autoencoder: State = field(default_factory=dict)
    description: dict[str, Any] | None = None
    assumed: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def contents(checkpoint: object) -> Contents:
    """The contents of a checkpoint that ``read_checkpoint`` has read.

    Raises:
        SkiptuneError: none of the official layouts.
    """
    values = checkpoint.values() if isinstance(checkpoint, Mapping) else (checkpoint,)
    if any(isinstance(value, PersistentRecord) for value in values):
        return recorded(network_record(checkpoint))
    if isinstance(checkpoint, (list, tuple)):
        return of_state(ddim_state(checkpoint))
    return of_state(state_dict(checkpoint))


def recorded(record: PersistentRecord) -> Contents:
    """A network of NVlabs/edm, edm2 or diff_instruct, which brings its class and its arguments."""
    family, name = ("EDM2", "EDM2Precond") if record.class_name == "Precond" else ("EDM", record.class_name)
    if name not in CLASSES[family]:
        known = ", ".join([*CLASSES["EDM"], "Precond"])
        raise SkiptuneError(f"holds a {record.class_name}, which is no network that is known ({known})")
    return Contents(family, record.state_dict(), description={"class": name, "kwargs": record.kwargs})


def of_state(state: State) -> Contents:
    """A plain state dict, recognised by its names."""
    state = {name.removeprefix("module."): value for name, value in state.items()}
    family = family_of(state)
    if family is None:  # the names of a denoiser of ours, which says nothing of how to build it
        state = {name.removeprefix("model."): value for name, value in state.items()}
        family = family_of(state)
    if family is None:
        first = ", ".join(list(state)[:3]) or "nothing"
        raise SkiptuneError(
            f"holds no network of a known family ({', '.join(CLASSES)}): it begins with {first}"
        )
    if family == "autoencoder":
        raise SkiptuneError(
            "holds an autoencoder, not a network: give it as the second file, autoencoder_file"
        )
    if family == "latent diffusion":
        return latent(state)
    if family == "guided diffusion" and any(".transformer_blocks." in name for name in state):
        raise SkiptuneError("holds the U-Net of latent diffusion alone: the whole checkpoint is needed")
    inside = family in ("EDM", "EDM2")  # whose names begin at the denoiser
    return Contents(family, state if inside else {f"model.{name}": value for name, value in state.items()})


def latent(state: State) -> Contents:
    """A whole latent diffusion model; its U-Net as it was trained last, as the official sampler uses it.

    Raises:
        SkiptuneError: parameters that no official file holds.
    """
    network = {
        ours + name[len(theirs) :]: value
        for name, value in state.items()
        for theirs, ours in LATENT_PARTS.items()
        if name.startswith(theirs)
    }
    inside = any(name.startswith(FIRST_STAGE) for name in state)
    rest = [name for name in state if not name.startswith((*LATENT_PARTS, FIRST_STAGE))]
    left_out = Counter(name.partition(".")[0] for name in rest)
    if surplus := [name for name in rest if name.partition(".")[0] not in BESIDE]:
        raise SkiptuneError(f"its parameters do not fit latent diffusion: surplus: {some(surplus)}")
    return Contents(
        "latent diffusion", network, autoencoder_state(state) if inside else {}, left_out=left_out
    )


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def family_of(state: Mapping[str, Any]) -> str | None:
    return next((family for family, mark in MARKS.items() if mark in state), None)


def state_dict(checkpoint: object) -> State:
    """The state dict in a checkpoint: itself, or what it calls ``state_dict``.

    Raises:
        SkiptuneError: something else.
    """
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise SkiptuneError(f"holds a {type(checkpoint).__name__}, no network and no state dict")
    other = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if other is not None:
        raise SkiptuneError(
            f"holds no state dict: {str(other)!r} is a {type(state[other]).__name__}, no tensor"
        )
    return {str(name): value for name, value in state.items()}
