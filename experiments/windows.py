"""Windows of a sampler's steps (Skip-Tuning, Section 5.2, Figure 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.samplers import make_sampler


def with_window(intervention: Mapping[str, Any], sampler: Mapping[str, Any]) -> dict[str, Any]:
    """The intervention with ``window: k, window_steps: n`` turned into bounds for sigma.

    Window k holds the noise levels of the steps k n .. (k + 1) n - 1, counted from the noisy end. Without a
    window the intervention stays as it is.

    Raises:
        SkiptuneError: a window beyond the sampler's steps.
    """
    settings = dict(intervention)
    if "window" not in settings:
        return settings
    window, count = settings.pop("window"), settings.pop("window_steps", 1)
    if type(window) is not int or type(count) is not int or window < 0 or count < 1:
        raise SkiptuneError(f"window {window!r} of {count!r} steps: give whole numbers, from 0 and from 1")
    levels = [float(level) for level in make_sampler(**sampler).sigmas if level > 0]
    inside = levels[window * count : (window + 1) * count]
    if len(inside) < count:
        raise SkiptuneError(
            f"window {window} of {count} steps lies beyond the {len(levels)} noise levels of the sampler"
        )
    return {**settings, "sigma_low": inside[-1], "sigma_high": inside[0]}
