"""Denoisers from plain descriptions: what a model configuration, or the header of a weights file, says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.denoisers.autoencoders import build_autoencoder
from skiptune.denoisers.consistency import ConsistencyDenoiser
from skiptune.denoisers.ddim import DDIMUNet
from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.discrete import ClassEmbedding, DiscreteDenoiser, vp_alphas
from skiptune.denoisers.edm2 import EDM2Precond
from skiptune.denoisers.guidance import ClassifierFreeGuidance
from skiptune.denoisers.guided import GuidedUNet, LatentUNet
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.denoisers.preconditioning import PRECONDITIONINGS
from skiptune.denoisers.prompt_encoder import PromptEncoder
from skiptune.denoisers.text_to_image import TextToImage, unet_of
from skiptune.denoisers.uvit import UViT
from skiptune.errors import SkiptuneError

Description = Mapping[str, Any]

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    cls.__name__: cls for cls in (DDIMUNet, GuidedUNet, LatentUNet, UViT)
}


def discrete(
    network: Description,
    image_shape: Sequence[int],
    schedule: Mapping[str, Any],
    num_classes: int = 0,
    prediction: str = "epsilon",
    class_tokens: int = 0,
    first_time: int = 0,
    time_scale: float = 1.0,
) -> DiscreteDenoiser:
    """A discrete-time denoiser from plain values.

    Args:
        network: ``{"class": a name in NETWORKS, "kwargs": ...}``.
        schedule: arguments of ``alphas``.
        class_tokens: width of the class tokens of a cross-attending network, 0 for none.
        first_time, time_scale: what the network is told of a time, see ``DiscreteDenoiser``.
    """
    channels, height, width = image_shape
    embedding = ClassEmbedding(num_classes, class_tokens) if class_tokens else None
    model = _made(NETWORKS, network, "network")
    levels = alphas(**schedule)
    shape = (channels, height, width)
    return DiscreteDenoiser(model, shape, levels, num_classes, prediction, embedding, first_time, time_scale)


def alphas(kind: str, beta_start: float, beta_end: float, num_timesteps: int = 1000) -> Tensor:
    """``abar_t`` ``[T]`` float64 on the CPU: ``vp_alphas``, or ``continuous``.

    ``continuous`` is the VP SDE (Song et al. 2021), ``abar(t) = exp(-integral of beta)`` with beta linear in
    t from ``beta_start`` to ``beta_end``, at ``t = 1/T .. 1``; the first time is then 1.
    """
    if kind != "continuous":
        return vp_alphas(kind, beta_start, beta_end, num_timesteps)
    t = torch.arange(1, num_timesteps + 1, dtype=torch.float64, device="cpu") / num_timesteps
    return (-beta_start * t - (beta_end - beta_start) * t**2 / 2).exp()


def text_to_image(
    unet: Description,
    encoder: Description,
    image_shape: Sequence[int],
    schedule: Mapping[str, Any],
    prediction: str = "epsilon",
) -> TextToImage:
    """A denoiser of prompts from plain values.

    Args:
        unet: arguments of diffusers' ``UNet2DConditionModel``.
        encoder: arguments of ``PromptEncoder``, its width being the U-Net's ``cross_attention_dim``.
        schedule: arguments of ``alphas``.
    """
    reader = PromptEncoder(width=unet["cross_attention_dim"], **encoder)
    channels, height, width = image_shape
    shape = (channels, height, width)
    return TextToImage(unet_of(unet), reader, shape, alphas(**schedule), prediction)


DENOISERS: dict[str, Callable[..., Denoiser]] = {
    **PRECONDITIONINGS,
    "EDM2Precond": EDM2Precond,
    "ConsistencyDenoiser": ConsistencyDenoiser,
    "DiscreteDenoiser": discrete,
    "TextToImage": text_to_image,
}


def build_denoiser(description: Description) -> Denoiser:
    """A denoiser with fresh weights from ``{"class": "EDMPrecond", "kwargs": {...}}``.

    Two optional wrappers: ``"guidance": {"scale", "null"}`` (classifier-free) and, for a model of latents,
    ``"autoencoder": {"class", "kwargs", "scale"}``.

    Raises:
        SkiptuneError: unknown class or argument.
    """
    denoiser: Denoiser = _made(DENOISERS, description, "denoiser")
    if guidance := description.get("guidance"):
        denoiser = _called(ClassifierFreeGuidance, "guidance", denoiser, **guidance)
    if autoencoder := description.get("autoencoder"):
        decoder = build_autoencoder(autoencoder)
        if decoder.latent_shape != tuple(denoiser.image_shape):
            made, used = list(decoder.latent_shape), list(denoiser.image_shape)
            raise SkiptuneError(f"the autoencoder makes latents {made}, the network takes {used}")
        denoiser = LatentDenoiser(denoiser, decoder, autoencoder.get("scale", 1.0))
    return denoiser


def _made(known: Mapping[str, Callable[..., Any]], description: Description, what: str) -> Any:
    name = str(description.get("class"))
    if name not in known:
        raise SkiptuneError(f"unknown {what} class {name!r}; choose one of {', '.join(known)}")
    return _called(known[name], name, **description.get("kwargs", {}))


def _called(build: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return build(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise SkiptuneError(f"cannot build {name}: {error}") from error
