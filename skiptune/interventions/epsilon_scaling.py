"""Epsilon scaling: multiply the predicted noise while sampling.

At the optimum of S2-DM's loss the network predicts ``s_t E[n | x_t]`` with ``s_t`` in closed form
(``skiptune.skip_step``), so this is S2-DM's objective without its training. A constant factor is 1 / lambda
of Ning et al. 2024, "Elucidating the Exposure Bias in Diffusion Models".
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.denoisers.discrete import vp_alphas
from skiptune.errors import SkiptuneError
from skiptune.interventions.clock import arguments
from skiptune.interventions.sites.find import INNER
from skiptune.skip_step import SkipStep


@dataclass(frozen=True)
class EpsilonScaling:
    """Multiply the predicted noise by ``k_t = scale s_t``.

    >>> with EpsilonScaling(skip_step=SkipStep(skip=10)).attached_to(denoiser):
    ...     images = sample(sampler, denoiser, noise)

    Attributes:
        scale: positive; 1 without ``skip_step`` leaves the output bit-identical.
        skip_step: its ``minimiser`` is ``s_t``; none is 1 at every time.
    """

    scale: float = 1.0
    skip_step: SkipStep | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.scale, int | float) and not isinstance(self.scale, bool)
        if not number or not 0 < self.scale < math.inf:
            raise SkiptuneError(
                f"scale of the predicted noise is {self.scale!r}, it must be a positive number"
            )

    @property
    def neutral(self) -> bool:
        """Whether it is the untouched network at every time and schedule."""
        return self.scale == 1 and self.skip_step is None

    def factors(self, alphas_cumprod: Tensor) -> Tensor:
        """``k_t`` ``[T]`` float64 for ``abar_t`` ``[T]``. Raises SkiptuneError as ``SkipStep.factors``."""
        if self.skip_step is None:
            return torch.full((len(alphas_cumprod),), float(self.scale), dtype=torch.float64)
        return self.scale * self.skip_step.minimiser(alphas_cumprod)

    @contextlib.contextmanager
    def attached_to(self, network: nn.Module, alphas_cumprod: Tensor | None = None) -> Iterator[None]:
        """Act on ``network`` inside the ``with`` block; blocks inside each other multiply.

        Of a denoiser ``D(x, sigma)`` the noise is ``(x - D) / sigma`` whatever its network predicts; guidance
        included, because it combines predictions linearly. Any other network, such as a diffusers U-Net, is
        taken to predict the noise from ``(x_t, t)``, times counted from 0.

        Args:
            alphas_cumprod: ``abar_t`` ``[T]`` of the schedule that ``s_t`` is of. Unless given it is that of
                the denoiser; DDPM's for one without, or a network alone.

        Raises:
            SkiptuneError: no network, or one without noise level or time; a skip as long as the schedule;
                when called, a wrapper that goes past the network (compiled before).
        """
        module = predicting(network)
        if alphas_cumprod is None:
            alphas_cumprod = getattr(module, "alphas_cumprod", None)
        if alphas_cumprod is None:
            alphas_cumprod = vp_alphas("linear", 1e-4, 0.02)
        factors = self.factors(alphas_cumprod)
        if self.neutral:
            yield
            return
        names = arguments(module)
        denoises = "sigma" in names
        times = torch.arange(len(factors), dtype=torch.float64)
        knots = (1 / alphas_cumprod.to("cpu", torch.float64) - 1).sqrt().log() if denoises else times
        # On the device of the network from the start: a copy at every call would make the GPU wait.
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        curve = Curve(knots.to(device), factors.to(device))
        acted = False

        def act(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            nonlocal acted
            acted = True
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            x, time = given[names[0]], torch.as_tensor(given["sigma" if denoises else names[1]])
            return of_denoiser(x, time, output, curve) if denoises else of_network(x, time, output, curve)

        def check(*_: Any) -> None:
            nonlocal acted
            if not acted:
                raise SkiptuneError(
                    f"{type(network).__name__} did not call its {type(module).__name__}, so nothing can act "
                    "there: compile a network after attaching"
                )
            acted = False

        handles = [module.register_forward_hook(act, with_kwargs=True), network.register_forward_hook(check)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@dataclass(frozen=True)
class Curve:
    """Values between rising knots, ``[T]`` float64 each, by linear interpolation; held beyond the ends."""

    knots: Tensor
    values: Tensor

    def at(self, where: Tensor) -> Tensor:
        """float64, in the shape of ``where``; where two ends are equal, exactly that value."""
        x = where.to(self.knots).contiguous()
        right = torch.searchsorted(self.knots, x).clamp(1, len(self.knots) - 1)
        low, high = self.knots[right - 1], self.knots[right]
        part = ((x - low) / (high - low)).clamp(0, 1)
        return torch.lerp(self.values[right - 1], self.values[right], part)


def predicting(network: nn.Module) -> nn.Module:
    """The outermost module that is called with a noise level, else the innermost one, called with a time.

    Raises:
        SkiptuneError: neither a denoiser nor a network of image and time.
    """
    module: Any = network
    while isinstance(module, nn.Module) and "sigma" not in arguments(module):
        parts = [getattr(module, name, None) for name in INNER]
        inner = next((part for part in parts if isinstance(part, nn.Module)), None)
        if inner is None:
            break
        module = inner
    if not isinstance(module, nn.Module):
        raise SkiptuneError(
            f"{type(network).__name__} is no torch module; of a diffusers pipeline give the U-Net, pipe.unet"
        )
    names = arguments(module)
    if "sigma" not in names and (len(names) < 2 or names[1] not in ("t", "timestep", "timesteps")):
        raise SkiptuneError(
            f"{type(module).__name__} is called neither with sigma nor with a time, so no noise is predicted "
            "there: attach to a denoiser, or to a network of (x, t)"
        )
    return module


def of_denoiser(x: Tensor, sigma: Tensor, x0: Tensor, curve: Curve) -> Tensor:
    """``x - k (x - D)``, written so that k = 1 changes no bit."""
    factor = curve.at(sigma.to(curve.knots).log())
    return x0 + images_shaped(1 - factor, x0) * (x.to(x0) - x0)


def of_network(x: Tensor, t: Tensor, output: Any, curve: Curve) -> Any:
    """The prediction times k; of a diffusers output its sample, of a tuple the first, of more channels than
    ``x`` has (learned variances) the first ones."""
    if isinstance(output, tuple):
        return (of_network(x, t, output[0], curve), *output[1:])
    if not isinstance(output, Tensor):
        return dataclasses.replace(output, sample=of_network(x, t, output.sample, curve))
    channels = x.shape[1]
    factor = images_shaped(curve.at(t), output)
    # In float32: half precision would round k, which differs from 1 by thousandths.
    scaled = (output[:, :channels].to(torch.float32) * factor).to(output.dtype)
    return scaled if output.shape[1] == channels else torch.cat([scaled, output[:, channels:]], dim=1)


def images_shaped(values: Tensor, like: Tensor) -> Tensor:
    """``[]`` or ``[N]`` as ``[1 or N, 1, 1, 1]`` float32 on the device of ``like``."""
    return values.to(like.device, torch.float32).reshape(-1, *[1] * (like.dim() - 1))
