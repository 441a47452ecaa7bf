"""How published numbers are made of images: how many, in what blocks, and what is reported of the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from skiptune.errors import SkiptuneError
from skiptune.evaluation.intervals import block_interval

# Resize in front of the network, by extractor; it is part of a protocol as much as the network is.
RESIZE = {
    "inception_v3": "TensorFlow 1's bilinear to 299 x 299, without antialiasing (torch-fidelity)",
    "clean_inception_v3": "Pillow's antialiased bicubic to 299 x 299 on floats (clean-fid)",
    "resnet101": "torchvision's: bilinear, antialiased, to 256, then centre crop 224",
    "clip_vitl14_336": "centred square, Pillow's antialiased bicubic to 336 x 336 (CMMD)",
}
NO_RESIZE = "none: the images are taken at their own size"
ROUNDING = "uint8 as stored"


@dataclass(frozen=True)
class Reduced:
    """A reported value, its 95% interval where the protocol has one, and the number n of blocks behind it."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Protocol:
    """A named way from the values of seed blocks to the number in the table.

    Attributes:
        report: `mean` of the blocks, with Student's t interval from 2 blocks on, or `best`: the lowest where
            lower is better. A best value has no interval: it is biased by the choice.
        blocks, images: the published number of blocks, and of images in each; None: any.
        extrapolate: FID is replaced by FID-infinity of each block.
    """

    name: str
    what: str
    report: Literal["mean", "best"] = "mean"
    blocks: int | None = None
    images: int | None = None
    extrapolate: bool = False

    def reduce(self, values: Sequence[float], lower_is_better: bool = True) -> Reduced:
        """The reported value. Raises SkiptuneError for no blocks, or another number than the protocol's."""
        self.check(len(values))
        if len(values) == 1:
            return Reduced(float(values[0]), None, None, 1)
        if self.report == "best":
            return Reduced(float((min if lower_is_better else max)(values)), None, None, len(values))
        interval = block_interval(values)
        return Reduced(interval.value, interval.low, interval.high, interval.n)

    def check(self, blocks: int) -> None:
        """Raises SkiptuneError for another number of blocks than the protocol has."""
        if blocks < 1 or self.blocks not in (None, blocks):
            raise SkiptuneError(
                f"protocol {self.name} is made of {self.blocks or '1 or more'} blocks, not of {blocks}"
            )

    def metric(self, name: str) -> str:
        """The metric that is computed where `name` is asked for."""
        return "fid_inf" if self.extrapolate and name == "fid" else name

    def describe(self, blocks: int, images: int) -> str:
        """The line for the table: what was done, and where it departs from what was published."""
        done = f"{blocks} x {images:,} images" if blocks > 1 else f"{images:,} images"
        line = f"{self.name}: {self.what}; here {done}"
        if self.images not in (None, images):
            line += f" (published: {self.images:,} images a block; FID falls with their number)"
        return line


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "unbiased",
            "mean over disjoint seed blocks, with its 95% interval from 2 blocks on",
        ),
        Protocol(
            "edm_best_of_three",
            "the lowest FID of three seed blocks, 0-49999, 50000-99999, 100000-149999 (NVlabs/edm)",
            report="best",
            blocks=3,
            images=50_000,
        ),
        Protocol(
            "adm",
            "one block of 50,000 images against ADM's reference batch: FID against its statistics, precision "
            "and recall against its 10,000 images (openai/guided-diffusion)",
            blocks=1,
            images=50_000,
        ),
        Protocol(
            "fid_infinity",
            "FID extrapolated to infinitely many images (Chong & Forsyth), mean over seed blocks",
            extrapolate=True,
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises SkiptuneError, listing the known ones, if there is none."""
    if name not in PROTOCOLS:
        raise SkiptuneError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def resize_rule(extractor: str) -> str:
    """What an extractor does to the size of images, in words."""
    return RESIZE.get(extractor, NO_RESIZE)
