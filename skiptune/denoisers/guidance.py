"""Guidance: a denoiser that is pushed away from a worse one, itself a denoiser.

What ``nfe`` counts: network evaluations per image. One guided estimate is two of them, whether they run as
one doubled batch or as two networks, so a table's NFE shows what guidance costs; papers that count sampler
steps (LDM, U-ViT) print half of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from skiptune.denoisers.denoiser import Denoiser
from skiptune.errors import SkiptuneError


class Wrapper(Denoiser):
    """A denoiser around ``model``, with its noise levels and its count of evaluations."""

    def __init__(self, model: Denoiser, num_classes: int | None = None):
        classes = model.num_classes if num_classes is None else num_classes
        super().__init__(model.image_shape, classes, model.sigma_min, model.sigma_max)
        self.model = model
        # The times of a discrete model, where samplers that know times look for them.
        self.alphas_cumprod: Tensor | None = getattr(model, "alphas_cumprod", None)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        return self.model.round_sigma(sigma)

    def forward(
        self, x: Tensor, sigma: Tensor, condition: Tensor | None = None, **options: Tensor | None
    ) -> Tensor:
        x0 = super().forward(x, sigma, condition, **options)
        self.nfe -= 1  # only the networks inside count
        return x0

    def evaluate(
        self,
        model: Denoiser,
        x: Tensor,
        sigma: Tensor,
        condition: Tensor | None,
        options: Mapping[str, Tensor | None],
        copies: int = 1,
    ) -> Tensor:
        """``model`` on a batch that holds every image ``copies`` times, counted."""
        before = model.nfe
        x0: Tensor = model(x, sigma.flatten(), condition, **options)
        self.nfe += copies * (model.nfe - before)
        return x0


class ClassifierFreeGuidance(Wrapper):
    """``D = D_uncond + scale (D_cond - D_uncond)`` (Ho & Salimans 2022), which at equal x and sigma is the
    same combination of the noise predictions.

    ``scale`` 1 is the conditional and 0 the unconditional estimate, each for one evaluation; otherwise both
    come from one doubled batch, unconditional half first. U-ViT's ``cond + s (cond - uncond)`` is scale
    ``1 + s``.

    Args:
        null: index of the network's class that stands for no condition (LDM, U-ViT: 1000, the last of 1001);
            seen from outside there is one class less. ``None``: an all-zero row, as in EDM.

    Raises:
        SkiptuneError: an unconditional network, or a null class that it does not have.
    """

    def __init__(self, model: Denoiser, scale: float, null: int | None = None):
        if model.num_classes == 0:
            raise SkiptuneError("classifier-free guidance needs a class-conditional network")
        if null is not None and not 0 <= null < model.num_classes:
            raise SkiptuneError(f"null class {null} does not exist: there are {model.num_classes} classes")
        super().__init__(model, model.num_classes - (null is not None))
        self.scale, self.null = scale, null

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        assert condition is not None  # `forward` makes None an all-zero row
        condition = condition.expand(x.shape[0], -1)
        if self.scale == 1:
            return self.evaluate(self.model, x, sigma, self._inner(condition), options)
        nothing = self._inner(torch.zeros_like(condition))
        if self.scale == 0:
            return self.evaluate(self.model, x, sigma, nothing, options)
        twice = torch.cat([nothing, self._inner(condition)])
        levels = torch.cat([sigma.expand(x.shape[0], 1, 1, 1)] * 2)
        doubled = {key: _twice(value, x.shape[0]) for key, value in options.items()}
        both = self.evaluate(self.model, torch.cat([x, x]), levels, twice, doubled, copies=2)
        uncond, cond = both.chunk(2)
        return uncond + self.scale * (cond - uncond)

    def _inner(self, condition: Tensor) -> Tensor:
        """The network's one-hot rows: the null class takes what the other classes leave of 1."""
        if self.null is None:
            return condition
        rest = 1 - condition.sum(1, keepdim=True)
        return torch.cat([condition[:, : self.null], rest, condition[:, self.null :]], dim=1)


def _twice(value: Tensor | None, count: int) -> Tensor | None:
    """The rows for both halves of a doubled batch of ``count`` images."""
    return None if value is None else torch.cat([value.expand(count, *value.shape[1:])] * 2)


class Autoguidance(Wrapper):
    """``D = D_guide + scale (D_model - D_guide)``: away from a smaller or less trained network (Karras et al.
    2024, "Guiding a Diffusion Model with a Bad Version of Itself"; EDM2's ``gnet``).

    The guide is given the same condition; an unconditional guide makes it EDM2's classifier-free guidance.
    ``scale`` 1 is the model alone, for one evaluation.

    Raises:
        SkiptuneError: networks for images of different shapes, or with different classes.
    """

    def __init__(self, model: Denoiser, guide: Denoiser, scale: float):
        if guide.image_shape != model.image_shape:
            raise SkiptuneError(
                f"the guide makes images {guide.image_shape}, the network {model.image_shape}: take a guide "
                "for the same images"
            )
        if guide.num_classes not in (0, model.num_classes):
            raise SkiptuneError(
                f"the guide has {guide.num_classes} classes, the network {model.num_classes}: take a guide "
                "with the same classes, or with none"
            )
        super().__init__(model)
        self.guide, self.scale = guide, scale

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor | None, **options: Tensor | None) -> Tensor:
        good = self.evaluate(self.model, x, sigma, condition, options)
        if self.scale == 1:
            return good
        bad = self.evaluate(self.guide, x, sigma, condition, options)
        return bad + self.scale * (good - bad)
