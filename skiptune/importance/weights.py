"""Block weights from importance scores (Importance Probe, Eq. 7 and 8)."""

from __future__ import annotations

from torch import Tensor

from skiptune.errors import SkiptuneError

ARMS = ("normal", "inverted", "mirrored")


def importance_weights(scores: Tensor, low: float, high: float, arm: str = "normal") -> Tensor:
    """``w = is (high - low) + low`` (Eq. 7), of the shape of ``scores`` ``[..., m]``.

    With scores in [1/m, 1] the weights lie in ``[low + (high - low)/m, high]`` (IP-A4).

    Args:
        arm: ``inverted`` takes ``1 - is`` instead (Eq. 8), which also lowers the mean weight by
            ``(high - low)/m``; ``mirrored`` takes ``(m + 1)/m - is``, the control with an equal mean (IP-A4).

    Raises:
        SkiptuneError: another arm.
    """
    if arm not in ARMS:
        raise SkiptuneError(f"unknown arm {arm!r} of the re-weighting; choose one of {', '.join(ARMS)}")
    blocks = scores.shape[-1]
    if arm == "inverted":
        scores = 1 - scores
    elif arm == "mirrored":
        scores = (blocks + 1) / blocks - scores
    return scores * (high - low) + low
