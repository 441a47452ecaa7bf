"""Feature extractors: a frozen classifier with a name and a digest, uint8 images in, features out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from skiptune.checkpoints.desk import DESK_FOLDER
from skiptune.data.images import from_uint8
from skiptune.errors import SkiptuneError
from skiptune.evaluation.classifiers import ARCHITECTURES
from skiptune.evaluation.features import FeatureSet
from skiptune.runtime.files import file_digest, read_json

if TYPE_CHECKING:
    from skiptune.data import Dataset

DESK_EXTRACTORS = tuple(f"{data}_{net}" for data in ("glyphs", "digits") for net in ("cnn", "resnet", "vit"))


class FeatureExtractor:
    """uint8 images [N, C, H, W] -> {"features": [N, d], "logits": [N, K]} float32 on the CPU, no gradients.

    The network always sees exactly `micro_batch` images, the last batch being filled up with zeros: kernels
    choose algorithms by batch size, so an image's features have the same bits in whatever set it comes.
    `network` (in evaluation mode, float images in [-1, 1]) is there for losses that need gradients.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        digest: str,
        image_shape: tuple[int, int, int],
        micro_batch: int = 256,
        device: str | torch.device = "cpu",
    ) -> None:
        if micro_batch < 1:
            raise SkiptuneError(f"micro_batch must be at least 1, got {micro_batch}")
        self.network = network.to(device).eval().requires_grad_(False)
        self.name = name
        self.digest = digest
        self.image_shape = image_shape
        self.micro_batch = micro_batch
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Raises SkiptuneError if the images are not uint8 of the extractor's shape, or none at all."""
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape or len(images) == 0:
            raise SkiptuneError(
                f"extractor {self.name} takes uint8 images of shape {list(self.image_shape)}, "
                f"got {str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
            )
        parts: dict[str, list[Tensor]] = {"features": [], "logits": []}
        for batch in images.split(self.micro_batch):
            full = torch.zeros(self.micro_batch, *self.image_shape, dtype=torch.uint8, device=self.device)
            full[: len(batch)] = batch
            outputs = self.network(from_uint8(full))
            for key, part in parts.items():
                part.append(outputs[key][: len(batch)].float().cpu())
        return {key: torch.cat(part) for key, part in parts.items()}


def load_extractor(
    name: str, folder: Path = DESK_FOLDER, device: str | torch.device = "cpu", micro_batch: int = 256
) -> FeatureExtractor:
    """The extractor of `<folder>/<name>.safetensors`, checked against the sha256 in `<name>.json`.

    The network is built from the header {"architecture", "kwargs" (JSON)}; nothing is unpickled.
    Raises SkiptuneError if a file is missing, damaged or does not match its record.
    """
    weights, record = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not (weights.is_file() and record.is_file()):
        known = sorted(path.stem for path in folder.glob("*_*.safetensors") if path.stem in DESK_EXTRACTORS)
        raise SkiptuneError(f"no extractor '{name}' in {folder}: there are {', '.join(known) or 'none'}")
    digest = file_digest(weights)
    expected = read_json(record)
    if not isinstance(expected, dict):
        raise SkiptuneError(f"{record} is no training record: restore it or train again")
    if digest != expected.get("sha256"):
        raise SkiptuneError(f"{weights} does not match the sha256 in {record.name}: restore both together")
    try:
        with safe_open(weights, framework="pt") as file:
            header = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a mapping)
        kwargs: dict[str, Any] = json.loads(header["kwargs"])
        network = ARCHITECTURES[header["architecture"]](**kwargs)
        network.load_state_dict(state)
        shape = (int(kwargs["in_channels"]), int(kwargs["resolution"]), int(kwargs["resolution"]))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SkiptuneError(f"{weights} holds no desk classifier ({reason}): train it again") from error
    return FeatureExtractor(network, name, digest, shape, micro_batch, device)


def dataset_features(
    extractor: FeatureExtractor, dataset: Dataset, seeds: Sequence[int] | range, split: str
) -> FeatureSet:
    """Features, logits and labels of a data set's images: the reference of the metrics."""
    step = 4 * extractor.micro_batch  # bounds the memory that the rendered images take
    parts = []
    for start in range(0, len(seeds), step):
        images, labels = dataset.batch(seeds[start : start + step], split)
        parts.append(FeatureSet(**extractor(images), labels=labels))
    return FeatureSet.cat(parts)
