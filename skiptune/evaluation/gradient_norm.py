"""Input-gradient norm of a network (Skip-Tuning, eq. 3): ``E_x |d/dx U(x)|_2``.

``U(x)`` is an image and the paper does not say how it is reduced, nor whether U is the denoiser or the raw
network inside: both are choices here. With J the Jacobian of an image's output by its input, the norm is that
of ``J^T v``: v = 1 ("sum"), 1 / number of outputs ("mean"), 2 U(x) ("squared_norm", the gradient of
|U(x)|^2); "jacobian" is the Frobenius norm |J|_F from random signs v, ``E_v |J^T v|^2 = |J|_F^2``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError
from skiptune.interventions.sites import inner_networks
from skiptune.samplers.noise import step_noise

READINGS = ("sum", "mean", "squared_norm", "jacobian")
PARTS = ("denoiser", "network")


def gradient_norms(
    denoiser: nn.Module,
    x: Tensor,
    sigma: float,
    condition: Tensor | None = None,
    *,
    reading: str = "sum",
    of: str = "denoiser",
    seeds: Sequence[int] = (),
    projections: int = 16,
    micro_batch: int = 64,
) -> Tensor:
    """Norm of the input gradient, one value per image [N] float64 on the CPU; interventions act as usual.

    Args:
        x: inputs [N, C, H, W] at that level: sigma n as one-step students receive it, or x0 + sigma n.
        sigma: noise standard deviation in image units.
        condition: one-hot [N, K].
        of: "denoiser" D(x, sigma) by x, or "network", the raw F(c_in x, c_noise) by its own input c_in x.
        seeds: of the random signs, one per image; for "jacobian" only.
        projections: number of random signs per image; the estimate of |J|_F^2 is unbiased for every number.

    Raises:
        SkiptuneError: unknown reading or part, no images, seeds that do not fit; for "network" a denoiser
            without a network of a known family, or one that calls it more than once (guidance).
    """
    if reading not in READINGS:
        raise SkiptuneError(f"unknown reading {reading!r} of the norm: choose one of {', '.join(READINGS)}")
    if of not in PARTS:
        raise SkiptuneError(f"unknown part {of!r} of a denoiser: choose one of {', '.join(PARTS)}")
    if len(x) == 0 or micro_batch < 1:
        raise SkiptuneError(f"a gradient norm needs inputs and a micro_batch, got {len(x)} and {micro_batch}")
    if reading == "jacobian" and (len(seeds) != len(x) or projections < 1):
        raise SkiptuneError(
            f"a Jacobian's norm needs projections and a seed per image, got {projections} and {len(seeds)}"
        )
    norms = []
    for start in range(0, len(x), micro_batch):
        rows = slice(start, start + micro_batch)
        labels = None if condition is None else condition[rows]
        inputs, outputs = _evaluated(denoiser, x[rows], sigma, labels, of)
        if reading == "jacobian":
            norms.append(_frobenius(inputs, outputs, seeds[rows], projections))
        else:
            norms.append(_pulled_back(inputs, outputs, _cotangent(outputs, reading)))
    return torch.cat(norms).cpu()


def _evaluated(
    denoiser: nn.Module, x: Tensor, sigma: float, condition: Tensor | None, of: str
) -> tuple[Tensor, Tensor]:
    """Input and output of that part, connected by a graph."""
    x = x.detach().clone().requires_grad_()
    level = torch.tensor(sigma, dtype=torch.float64, device=x.device)
    with torch.enable_grad():
        if of == "denoiser":
            return x, denoiser(x, level, condition)
        calls: list[tuple[Tensor, Tensor]] = []

        def listen(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append((args[0], getattr(output, "sample", output)))

        handle = inner_networks(denoiser)[-1][1].register_forward_hook(listen)
        try:
            denoiser(x, level, condition)
        finally:
            handle.remove()
    if len(calls) != 1 or len(calls[0][0]) != len(x):
        raise SkiptuneError("the raw network ran more than once per image: measure it without guidance")
    inputs, outputs = calls[0]
    return inputs, outputs[:, : x.shape[1]]  # beyond them lies a learned variance


def _cotangent(outputs: Tensor, reading: str) -> Tensor:
    if reading == "squared_norm":
        return 2 * outputs.detach()
    return torch.full_like(outputs, 1.0 if reading == "sum" else 1 / outputs[0].numel())


def _frobenius(inputs: Tensor, outputs: Tensor, seeds: Sequence[int], projections: int) -> Tensor:
    """[N] float64: root of the mean of |J^T v|^2 over random signs v."""
    squares = torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
    for k in range(projections):
        signs = step_noise(seeds, k, outputs.shape[1:], outputs.device).sign().to(outputs)
        squares += _pulled_back(inputs, outputs, signs, keep=k < projections - 1) ** 2
    return (squares / projections).sqrt()


def _pulled_back(inputs: Tensor, outputs: Tensor, v: Tensor, keep: bool = False) -> Tensor:
    """|J^T v| per image, [N] float64: images of a batch do not touch each other."""
    (gradient,) = torch.autograd.grad(outputs, inputs, v, retain_graph=keep)
    return gradient.to(torch.float64).flatten(1).norm(dim=1)
