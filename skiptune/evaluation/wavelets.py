"""The four bands of a one-level 2-D wavelet transform (Skip-Tuning, Table 14), by PyWavelets.

The paper does not name the wavelet. Its band names are those of PyWavelets' example, which uses bior1.3, and
the sum of its four losses relative to the pixel loss is that of bior1.3 and not of an orthonormal wavelet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skiptune.errors import SkiptuneError
from skiptune.evaluation.denoising_losses import Space
from skiptune.evaluation.extractors.pretrained import library

BANDS = ("LL", "LH", "HL", "HH")
"""Approximation, horizontal, vertical and diagonal detail, in the order of `pywt.dwt2`."""


def wavelet_bands(images: Tensor, wavelet: str = "bior1.3", mode: str = "symmetric") -> dict[str, Tensor]:
    """Bands [N, C, h, w] float64 of images [N, C, H, W], on the device of the images, without gradients.

    h = floor((H + filter length - 1) / 2): the boundary is extended by `mode`. With an orthonormal wavelet of
    length 2 (haar) and even H and W the squares of the four bands add up to those of the image.

    Raises:
        SkiptuneError: a wavelet or mode that PyWavelets does not know.
    """
    pywt = library("pywt", "PyWavelets")
    if wavelet not in pywt.wavelist(kind="discrete"):
        raise SkiptuneError(f"unknown wavelet {wavelet!r}: choose a discrete one of PyWavelets, as haar")
    if mode not in pywt.Modes.modes:
        raise SkiptuneError(f"unknown extension {mode!r}: choose one of {', '.join(pywt.Modes.modes)}")
    array = images.detach().cpu().to(torch.float64).numpy()
    approximation, details = pywt.dwt2(array, wavelet, mode, axes=(-2, -1))
    bands = (approximation, *details)
    return {name: torch.from_numpy(band).to(images.device) for name, band in zip(BANDS, bands, strict=True)}


def wavelet_space(band: str, wavelet: str = "bior1.3", mode: str = "symmetric") -> Space:
    """One band as a space of `denoising_losses` (to measure, not to train: PyWavelets gives no gradients).

    Raises:
        SkiptuneError: no such band, wavelet or mode; called for a gradient.
    """
    if band not in BANDS:
        raise SkiptuneError(f"unknown wavelet band {band!r}: choose one of {', '.join(BANDS)}")
    wavelet_bands(torch.zeros(1, 1, 2, 2), wavelet, mode)  # refuses mistakes now

    def space(images: Tensor) -> Tensor:
        if images.requires_grad:
            raise SkiptuneError("wavelet losses have no gradients: measure them under torch.no_grad()")
        return wavelet_bands(images, wavelet, mode)[band]

    return space
