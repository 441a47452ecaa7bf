"""Five ways to turn a raw network ``F`` into a denoiser ``D``: Karras et al. 2022, Table 1; Song et al. 2023.

``D(x; sigma) = c_skip x + c_out F(c_in x, c_noise)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skiptune.denoisers.adm import DhariwalUNet
from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.song import SongUNet

NETWORKS: dict[str, type[nn.Module]] = {"DhariwalUNet": DhariwalUNet, "SongUNet": SongUNet}


class Preconditioned(Denoiser):
    """A raw network ``model`` between scalings; arguments are those of the official checkpoints."""

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.0,
        sigma_max: float = float("inf"),
        model_type: str = "SongUNet",
        out_channels: int | None = None,
        **network: Any,
    ):
        super().__init__((img_channels, img_resolution, img_resolution), label_dim, sigma_min, sigma_max)
        if model_type not in NETWORKS:
            raise ValueError(f"model_type is {model_type!r}, expected one of {', '.join(NETWORKS)}")
        self.use_fp16 = use_fp16
        self.model = NETWORKS[model_type](
            img_resolution=img_resolution,
            in_channels=img_channels,
            out_channels=out_channels or img_channels,
            label_dim=label_dim,
            **network,
        )

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(c_skip, c_out, c_in, c_noise)`` for ``sigma`` of shape ``[1 or N, 1, 1, 1]``."""
        raise NotImplementedError

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        c_skip, c_out, c_in, c_noise = self.coefficients(sigma)
        # Half precision only where it is fast, as in EDM.
        dtype = torch.float16 if self.use_fp16 and x.device.type == "cuda" else torch.float32
        raw = self.model((c_in * x).to(dtype), c_noise.flatten(), condition, **options).to(torch.float32)
        return c_skip * x + c_out * raw[:, : x.shape[1]]


class EDMPrecond(Preconditioned):
    """EDM: unit-variance input and target at every noise level.

    ``sigma_data`` is the standard deviation of the images.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.0,
        sigma_max: float = float("inf"),
        sigma_data: float = 0.5,
        model_type: str = "DhariwalUNet",
        **network: Any,
    ):
        super().__init__(
            img_resolution, img_channels, label_dim, use_fp16, sigma_min, sigma_max, model_type, **network
        )
        self.sigma_data = sigma_data

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        total = sigma**2 + self.sigma_data**2
        return (
            self.sigma_data**2 / total,
            sigma * self.sigma_data / total.sqrt(),
            1 / total.sqrt(),
            sigma.log() / 4,
        )


class ConsistencyPrecond(EDMPrecond):
    """EDM's network as a consistency model: ``D(x, sigma_min) = x`` (Song et al. 2023, appendix C).

    Only ``c_skip`` and ``c_out`` differ from EDM's, and by little far above ``sigma_min``, so weights trained
    for ``EDMPrecond`` fit. ``ConsistencyDenoiser`` is the same around the networks of the official files.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        *,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        **others: Any,
    ):
        super().__init__(
            img_resolution, img_channels, label_dim, sigma_min=sigma_min, sigma_max=sigma_max, **others
        )

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        _, _, c_in, c_noise = super().coefficients(sigma)
        above = sigma - self.sigma_min
        c_skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        return c_skip, above * self.sigma_data * c_in, c_in, c_noise


class VPPrecond(Preconditioned):
    """Variance-preserving SDE of Song et al. 2021: linear beta, noise prediction in ``M`` time steps."""

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        beta_d: float = 19.9,
        beta_min: float = 0.1,
        M: int = 1000,
        epsilon_t: float = 1e-5,
        model_type: str = "SongUNet",
        **network: Any,
    ):
        schedule = VPSchedule(beta_d, beta_min)
        with torch.device("cpu"):  # values are needed, also where the network is built on the meta device
            low, high = float(schedule.sigma(epsilon_t)), float(schedule.sigma(1))
        super().__init__(img_resolution, img_channels, label_dim, use_fp16, low, high, model_type, **network)
        self.schedule, self.M = schedule, M

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            torch.ones_like(sigma),
            -sigma,
            1 / (sigma**2 + 1).sqrt(),
            (self.M - 1) * self.schedule.time(sigma),
        )


class VPSchedule:
    """``sigma(t) = sqrt(exp(beta_d t^2 / 2 + beta_min t) - 1)`` and its inverse."""

    def __init__(self, beta_d: float, beta_min: float):
        self.beta_d, self.beta_min = beta_d, beta_min

    def sigma(self, t: Tensor | float) -> Tensor:
        t = torch.as_tensor(t)
        return ((0.5 * self.beta_d * t**2 + self.beta_min * t).exp() - 1).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        sigma = torch.as_tensor(sigma)
        return (
            (self.beta_min**2 + 2 * self.beta_d * (1 + sigma**2).log()).sqrt() - self.beta_min
        ) / self.beta_d


class VEPrecond(Preconditioned):
    """Variance-exploding SDE of Song et al. 2021: the network sees ``x`` itself."""

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        sigma_min: float = 0.02,
        sigma_max: float = 100.0,
        model_type: str = "SongUNet",
        **network: Any,
    ):
        super().__init__(
            img_resolution, img_channels, label_dim, use_fp16, sigma_min, sigma_max, model_type, **network
        )

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        one = torch.ones_like(sigma)
        return one, sigma, one, (0.5 * sigma).log()


class iDDPMPrecond(Preconditioned):  # noqa: N801 - the published class name
    """Improved DDPM (Nichol & Dhariwal 2021): cosine schedule in ``M`` steps, twice the output channels."""

    u: Tensor

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int = 0,
        use_fp16: bool = False,
        C_1: float = 0.001,
        C_2: float = 0.008,
        M: int = 1000,
        model_type: str = "DhariwalUNet",
        **network: Any,
    ):
        with torch.device("cpu"):  # values are needed, also where the network is built on the meta device
            levels = cosine_levels(M, C_1, C_2)
            low, high = float(levels[M - 1]), float(levels[0])
        super().__init__(
            img_resolution,
            img_channels,
            label_dim,
            use_fp16,
            low,
            high,
            model_type,
            2 * img_channels,
            **network,
        )
        self.M = M
        self.register_buffer("u", levels.to(torch.get_default_device()))

    def coefficients(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c_noise = self.M - 1 - self.nearest_level(sigma).to(torch.float32)
        return torch.ones_like(sigma), -sigma, 1 / (sigma**2 + 1).sqrt(), c_noise

    def nearest_level(self, sigma: Tensor) -> Tensor:
        """Index into ``u`` (descending) of the entry nearest to ``sigma``, same shape as ``sigma``."""
        sigma = torch.as_tensor(sigma)
        distance = (sigma.to(self.u).reshape(-1, 1) - self.u[None]).abs()
        return distance.argmin(dim=1).reshape(sigma.shape)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        sigma = torch.as_tensor(sigma)
        return self.u[self.nearest_level(sigma)].to(sigma.dtype)


def cosine_levels(steps: int, c_1: float, c_2: float) -> Tensor:
    """Descending noise levels ``u_0..u_M`` with ``u_M = 0`` (Karras et al. 2022, Table 1, iDDPM)."""

    def alpha_bar(j: int) -> Tensor:
        return (0.5 * torch.pi * torch.tensor(j / steps / (c_2 + 1))).sin() ** 2

    u = torch.zeros(steps + 1)
    for j in range(steps, 0, -1):
        ratio = (alpha_bar(j - 1) / alpha_bar(j)).clip(min=c_1)
        u[j - 1] = ((u[j] ** 2 + 1) / ratio - 1).sqrt()
    return u


PRECONDITIONINGS: dict[str, type[Preconditioned]] = {
    cls.__name__: cls for cls in (EDMPrecond, ConsistencyPrecond, VPPrecond, VEPrecond, iDDPMPrecond)
}
