"""Networks behind one interface: ``D(x, sigma, condition) -> x0``."""

from skiptune.denoisers.adm import DhariwalUNet
from skiptune.denoisers.denoiser import Denoiser
from skiptune.denoisers.preconditioning import (
    PRECONDITIONINGS,
    EDMPrecond,
    Preconditioned,
    VEPrecond,
    VPPrecond,
    iDDPMPrecond,
)
from skiptune.denoisers.registry import build_denoiser
from skiptune.denoisers.song import SongUNet

__all__ = [
    "PRECONDITIONINGS", "Denoiser", "DhariwalUNet", "EDMPrecond", "Preconditioned", "SongUNet", "VEPrecond",
    "VPPrecond", "build_denoiser", "iDDPMPrecond",
]  # fmt: skip
