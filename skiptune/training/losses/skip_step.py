"""S2-DM's loss: the predicted noise as it is, and scaled to a skip of several steps, against the noise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor

from skiptune.denoisers import Denoiser
from skiptune.skip_step import SkipStep
from skiptune.training.losses.noise_prediction import draw_times, predict, reduced, with_times


@dataclass(frozen=True)
class SkipStepLoss(SkipStep):
    """``tau (n - eps)^2 + (1 - tau) (n - c_t eps)^2`` from one network call (S2-DMs, Eq. 13, Algorithm 1).

    With ``tau`` 1 it is DDPM's loss. The reading of the paper is that of ``SkipStep``.

    Attributes:
        weights_only: train the plain ``a_t (n - eps)^2`` with the weights ``a_t`` that this loss induces over
            the times (``SkipStep.loss_weights``), to tell what they do from what the scaling does.
        antithetic, summed: as in ``NoisePredictionLoss``.
    """

    weights_only: bool = False
    antithetic: bool = False
    summed: bool = False

    def __call__(
        self, denoiser: Denoiser, images: Tensor, condition: Tensor | None, generator: Generator
    ) -> Tensor:
        """Loss ``[]`` of one time and one noise per image; arguments, draws and errors are those of
        ``NoisePredictionLoss``, and SkiptuneError for a reading whose factors are not finite."""
        times, plain, skipping = self.terms(denoiser, images, condition, generator)
        alphas = with_times(denoiser).alphas_cumprod
        if self.weights_only:
            return reduced(per_image(self.loss_weights(alphas), times, plain) * plain, self.summed)
        first, second = (per_image(weights, times, plain) for weights in self.term_weights(alphas))
        return reduced(first * plain + second * skipping, self.summed)

    def terms(
        self, denoiser: Denoiser, images: Tensor, condition: Tensor | None, generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Times ``[N]`` and, from one network call, the squared errors of L_0 and L_skip ``[N, C, H, W]``."""
        discrete = with_times(denoiser)
        end = discrete.num_timesteps
        times = draw_times(len(images), self.first_time, end, self.antithetic, generator)
        noise, error = predict(discrete, images, condition, times, generator)
        factors = per_image(self.factors(discrete.alphas_cumprod), times, noise)
        return times, error.square(), (noise - factors * (noise - error)).square()


def per_image(values: Tensor, times: Tensor, like: Tensor) -> Tensor:
    """``values`` ``[T]`` at the times ``[N]``, as ``[N, 1, 1, 1]`` of the type and device of ``like``."""
    return values[times].to(like).reshape(-1, 1, 1, 1)
