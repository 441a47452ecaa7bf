"""Scores of single images: LPIPS between pairs, and agreement of image and text (HPS v2)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skiptune.data.images import from_uint8
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import CHECKPOINTS
from skiptune.evaluation.extractors.base import check_uint8
from skiptune.evaluation.extractors.clip import EXTRA, build_clip, channel_values, image_size
from skiptune.evaluation.extractors.pretrained import (
    OfficialWeights,
    library,
    load_into,
    read_state,
    unfit,
    verified_weights,
)
from skiptune.runtime.files import digest, file_digest

BACKBONES = {
    "alex": OfficialWeights("alexnet-owt-7be5be79.pth", "alexnet", "7be5be79"),
    "vgg": OfficialWeights("vgg16-397923af.pth", "vgg16", "397923af"),
    "squeeze": OfficialWeights("squeezenet1_1-b8a52dc0.pth", "squeezenet1_1", "b8a52dc0"),
}
HPS_V2 = OfficialWeights("HPS_v2_compressed.pt", "hps_v2")
HPS_ARCHITECTURE = "ViT-H-14"


class PairedDistance:
    """LPIPS (Zhang et al., arXiv 1801.03924) of uint8 images a[i], b[i] [N, 3, H, W] -> [N] float32.

    Images enter as float in [-1, 1] at their own size, as in the papers; `digest` names backbone and linear
    heads. `network` is the lpips package's, differentiable.
    """

    def __init__(
        self, network: nn.Module, name: str, digest: str, device: str | torch.device = "cpu"
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.name, self.digest, self.device = name, digest, torch.device(device)

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor, micro_batch: int = 16) -> Tensor:
        """Raises SkiptuneError unless both are uint8 RGB images of one shape."""
        for images in (a, b):
            check_uint8(images, None, self.name)
        if a.shape != b.shape:
            raise SkiptuneError(f"{self.name} compares pairs, got {list(a.shape)} and {list(b.shape)}")
        pairs = zip(a.split(micro_batch), b.split(micro_batch), strict=True)
        values = [
            self.network(from_uint8(x.to(self.device)), from_uint8(y.to(self.device))) for x, y in pairs
        ]
        return torch.cat(values).flatten().float().cpu()


def load_lpips(
    backbone: str = "alex",
    folder: Path = CHECKPOINTS,
    device: str | torch.device = "cpu",
    *,
    weights: Path | None = None,
    sha256: str | None = None,
) -> PairedDistance:
    """LPIPS 0.1 with the lpips package's linear heads and torchvision's backbone from a local file.

    Raises:
        SkiptuneError: unknown backbone; the file or the package is missing, damaged or another.
    """
    if backbone not in BACKBONES:
        raise SkiptuneError(f"no LPIPS backbone '{backbone}': choose one of {', '.join(BACKBONES)}")
    lpips = library("lpips", "lpips", EXTRA)
    official, name = BACKBONES[backbone], f"LPIPS ({backbone})"
    path, backbone_sha256 = _verified(name, official, folder, weights, sha256)
    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{backbone}.pth"
    with warnings.catch_warnings():  # it uses an old argument of torchvision's
        warnings.simplefilter("ignore", UserWarning)
        network = lpips.LPIPS(net=backbone, pnet_rand=True, model_path=str(heads), verbose=False)
    state = read_state(path, "use torchvision's file")
    try:  # torchvision's `features.N` is `sliceK.N` there
        wanted = {key: state["features." + key.partition(".")[2]] for key in network.net.state_dict()}
    except KeyError as error:
        raise unfit(name, error, f"use torchvision's file, {official.file}") from error
    load_into(network.net, wanted, f"use torchvision's file, {official.file}")
    return PairedDistance(network, name, digest(backbone_sha256 + file_digest(heads)), device)


class ImageTextScorer(Protocol):
    """uint8 images [N, 3, H, W] and their N prompts -> scores [N] float32, higher is better."""

    name: str
    digest: str

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor: ...


class HPSv2:
    """Human preference score v2 (Wu et al., arXiv 2306.09341): cosine similarity of image and text.

    As the official `hpsv2.score`: pixels / 255, longer side to the model's size (bicubic on floats,
    antialiased as torchvision's default), padded with black, CLIP's mean and deviation; half precision where
    the device is a GPU. The similarity itself is taken in float32. Prompts are cleaned (`clean_prompt`).
    Beside hpsv2 1.2.0 with random weights of the whole ViT-H/14 the scores of a square and an oblong image
    differed by 3e-8. That package cannot be a dependency: it pins a protobuf that wandb excludes, imports Tk
    and lacks its own vocabulary file.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        digest: str,
        device: str | torch.device = "cpu",
        micro_batch: int = 16,
        architecture: str = HPS_ARCHITECTURE,
    ) -> None:
        model = build_clip(architecture, state, f"use the official file, {HPS_V2.file}")
        self.name, self.digest, self.micro_batch = "hps_v2", digest, micro_batch
        self.device = torch.device(device)
        self.model = model.to(self.device).requires_grad_(False)
        self.size = image_size(model)
        self._mean = channel_values(model.visual.image_mean).to(self.device)
        self._std = channel_values(model.visual.image_std).to(self.device)
        self._tokens: Any = library("open_clip", "open-clip-torch", EXTRA).get_tokenizer(architecture)

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Raises SkiptuneError unless the images are uint8 RGB and there is one prompt for each."""
        check_uint8(images, None, self.name)
        if isinstance(prompts, str) or len(prompts) != len(images):
            raise SkiptuneError(f"{self.name} takes one prompt per image, got {len(images)} images")
        scores = []
        for start in range(0, len(images), self.micro_batch):
            rows = slice(start, start + self.micro_batch)
            pixels = self.preprocess(images[rows].to(self.device))
            text = self._tokens([clean_prompt(prompt) for prompt in prompts[rows]]).to(self.device)
            with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
                seen = self.model.encode_image(pixels, normalize=True)
                read = self.model.encode_text(text, normalize=True)
            scores.append((seen.float() * read.float()).sum(-1).cpu())
        return torch.cat(scores)

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] to normalised float32 [N, 3, size, size]."""
        height, width = (round(side * self.size / max(images.shape[-2:])) for side in images.shape[-2:])
        x = images.float() / 255
        if (height, width) != tuple(images.shape[-2:]):
            x = F.interpolate(x, (height, width), mode="bicubic", antialias=True)
        missing_h, missing_w = self.size - height, self.size - width
        left, top = missing_w // 2, missing_h // 2
        return (F.pad(x, (left, missing_w - left, top, missing_h - top)) - self._mean) / self._std


def load_hps_v2(
    folder: Path = CHECKPOINTS,
    device: str | torch.device = "cpu",
    *,
    weights: Path | None = None,
    sha256: str | None = None,
) -> HPSv2:
    """HPS v2 from its local file. Raises SkiptuneError: it or open_clip is missing, damaged or another."""
    path, sha256 = _verified("scorer 'hps_v2'", HPS_V2, folder, weights, sha256)
    return HPSv2(read_state(path, f"use the official file, {HPS_V2.file}"), sha256, device)


def clean_prompt(prompt: str) -> str:
    """The prompt as it is scored: letters, digits, comma, full stop and space of ASCII are kept."""
    return re.sub(r"[^A-Za-z0-9,. ]", "", prompt)


def _verified(
    what: str, official: OfficialWeights, folder: Path, weights: Path | None, sha256: str | None
) -> tuple[Path, str]:
    path = folder / official.file if weights is None else weights
    expected = sha256 or (official.sha256 if weights is None else None)
    return path, verified_weights(what, path, official.entry, expected)
