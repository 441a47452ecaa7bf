"""Networks trained on a discrete variance-preserving schedule, as denoisers (DDPM, LDM, U-ViT).

Training sees ``x_vp = sqrt(abar_t) x0 + sqrt(1 - abar_t) n`` at the times ``t = 0..T-1`` (Ho et al. 2020).
The same image in EDM coordinates is ``x = x_vp / sqrt(abar_t) = x0 + sigma n`` with ``sigma^2 = 1 / abar_t -
1``, so ``x_vp = x / sqrt(1 + sigma^2)``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skiptune.denoisers.denoiser import Denoiser
from skiptune.errors import SkiptuneError

PREDICTIONS = ("epsilon", "v")
# A whole time comes back whole, although sigma passes through float32 (worth about 1e-5 of a time step).
SNAP = 1e-4


class DiscreteDenoiser(Denoiser):
    """A network ``model(x_vp, t [N], condition)`` that predicts the noise or the velocity.

    Between two times of the schedule the network is given a fractional time, by interpolation in log sigma;
    beyond the ends it is given the first or the last. ``sigma_min`` and ``sigma_max`` are the ends.

    Args:
        model: the network; further output channels (learned variances) are ignored.
        image_shape: ``(C, H, W)``.
        alphas_cumprod: ``abar_t`` ``[T]``, descending, for example from ``vp_alphas``.
        num_classes: width of the one-hot condition.
        prediction: ``epsilon``, or ``v = sqrt(abar) n - sqrt(1 - abar) x0`` (Salimans & Ho 2022).
        embedding: turns the one-hot condition into tokens ``[N, T, D]``, which are then handed to the network
            as ``context``.
        first_time, time_scale: the network is told ``time_scale (t + first_time)``. U-ViT-H counts its times
            from 1; U-ViT-L is told 999 times a continuous time, of which the levels are fine steps.

    Raises:
        SkiptuneError: an unknown prediction, or a schedule that does not fall inside (0, 1).
    """

    def __init__(
        self,
        model: nn.Module,
        image_shape: tuple[int, int, int],
        alphas_cumprod: Tensor,
        num_classes: int = 0,
        prediction: str = "epsilon",
        embedding: nn.Module | None = None,
        first_time: int = 0,
        time_scale: float = 1.0,
    ):
        alphas = alphas_cumprod.to("cpu", torch.float64)
        falls = bool((alphas[1:] < alphas[:-1]).all()) and bool((alphas > 0).all() and (alphas < 1).all())
        if alphas.dim() != 1 or len(alphas) < 2 or not falls:
            raise SkiptuneError("alphas_cumprod must fall strictly inside (0, 1) over at least 2 times")
        if prediction not in PREDICTIONS:
            raise SkiptuneError(f"unknown prediction {prediction!r}: choose one of {', '.join(PREDICTIONS)}")
        sigmas = (1 / alphas - 1).sqrt()
        super().__init__(image_shape, num_classes, float(sigmas[0]), float(sigmas[-1]))
        # Plain values, not buffers: they are settings, and must survive .half() and the meta device.
        self.alphas_cumprod, self.sigmas = alphas, sigmas
        # By device: a copy to a GPU in every call would wait for what the GPU does.
        self.log_sigmas = {sigmas.device: sigmas.log()}
        self.prediction, self.first_time, self.time_scale = prediction, first_time, time_scale
        self.model = model
        self.embedding = embedding

    @property
    def num_timesteps(self) -> int:
        """``T``."""
        return len(self.alphas_cumprod)

    def time(self, sigma: Tensor) -> Tensor:
        """Time in ``[0, T - 1]`` float64 whose level is ``sigma``, same shape, ``first_time`` not added."""
        if sigma.device not in self.log_sigmas:
            self.log_sigmas[sigma.device] = self.sigmas.log().to(sigma.device)
        knots = self.log_sigmas[sigma.device]
        log = sigma.to(torch.float64).log()
        left = (torch.searchsorted(knots, log.contiguous(), right=True) - 1).clamp(0, len(knots) - 2)
        time = (left + (log - knots[left]) / (knots[left + 1] - knots[left])).clamp(0, len(knots) - 1)
        whole = time.round()
        return torch.where((time - whole).abs() < SNAP, whole, time)

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        scale = 1 / (1 + sigma**2).sqrt()
        count = x.shape[0]
        told = self.time_scale * (self.time(sigma) + self.first_time)
        time = told.to(torch.float32).flatten().expand(count)
        if condition is not None:
            condition = condition.expand(count, -1)
        if self.embedding is not None and condition is not None:
            options, condition = {**options, "context": self.embedding(condition)}, None
        raw = self.model(scale * x, time, condition, **options).to(torch.float32)[:, : x.shape[1]]
        if self.prediction == "epsilon":
            return x - sigma * raw
        return scale**2 * x - sigma * scale * raw

    def round_sigma(self, sigma: Tensor) -> Tensor:
        """The nearest level of the schedule, in the type of ``sigma``."""
        sigma = torch.as_tensor(sigma)
        levels = self.sigmas.to(sigma.device)
        nearest = (sigma.to(levels).reshape(-1, 1) - levels).abs().argmin(dim=1)
        return levels[nearest].reshape(sigma.shape).to(sigma.dtype)


class ClassEmbedding(nn.Module):
    """One-hot labels ``[N, K]`` -> one token ``[N, 1, D]`` each (latent diffusion's ``cond_stage_model``)."""

    def __init__(self, num_classes: int, dim: int):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, dim)

    def forward(self, condition: Tensor) -> Tensor:
        return (condition.to(self.embedding.weight.dtype) @ self.embedding.weight)[:, None]


def vp_alphas(kind: str, beta_start: float, beta_end: float, num_timesteps: int = 1000) -> Tensor:
    """``abar_t = prod_s (1 - beta_s)``, ``[T]`` float64 on the CPU.

    Args:
        kind: ``linear`` in beta (DDPM, DDIM: 1e-4 to 0.02), or ``scaled_linear``, linear in sqrt(beta) (LDM:
            0.0015 to 0.0195, U-ViT and Stable Diffusion: 0.00085 to 0.012; LDM itself calls it "linear"), or
            ``linear_per_step``, linear in beta with nothing accumulated, ``abar_t = 1 - beta_t``: a reading
            of S2-DM's formulas (S2-A2) whose noisiest level, 0.14, is no place to begin sampling from.

    Raises:
        SkiptuneError: another kind, or betas outside (0, 1).
    """
    if not (0 < beta_start < 1 and 0 < beta_end < 1 and num_timesteps >= 2):
        raise SkiptuneError(f"betas from {beta_start} to {beta_end} in {num_timesteps} times are no schedule")
    if kind in ("linear", "linear_per_step"):
        betas = torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float64, device="cpu")
    elif kind == "scaled_linear":
        ends = beta_start**0.5, beta_end**0.5
        betas = torch.linspace(*ends, num_timesteps, dtype=torch.float64, device="cpu") ** 2
    else:
        raise SkiptuneError(f"unknown schedule {kind!r}: choose linear, scaled_linear or linear_per_step")
    return 1 - betas if kind == "linear_per_step" else (1 - betas).cumprod(0)
