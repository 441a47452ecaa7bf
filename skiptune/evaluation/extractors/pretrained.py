"""Networks of kept libraries with weights from a local file: checked, read safely, never downloaded here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skiptune.checkpoints.fetching.records import Record
from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors.base import FeatureExtractor
from skiptune.runtime.files import file_digest


@dataclass(frozen=True)
class OfficialWeights:
    """The published file: its name below the checkpoints folder, entry of `configs/checkpoint`, and sha256.

    Attributes:
        sha256: as published, the leading digits where only these are; None where nothing is: then the record
            of the download (trusted at first use) is what the file must match.
    """

    file: str
    entry: str
    sha256: str | None = None


class PretrainedNetwork(nn.Module):
    """A network with its official preprocessing, built by `__init__(state)` from the file's state dict.

    `body(preprocess(uint8))` is the extractor; `forward`, for losses, takes float images in [-1, 1] and is
    differentiable. Both give {"features": [N, d], "logits": [N, K]}.
    """

    weights: ClassVar[OfficialWeights]
    hint: ClassVar[str] = "use the official file"

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] to what `body` takes, by the published protocol."""
        raise NotImplementedError

    def preprocess_smoothly(self, pixels: Tensor) -> Tensor:
        """The same of float pixel values in [0, 255], differentiable."""
        raise NotImplementedError

    def body(self, x: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.body(self.preprocess_smoothly((images + 1) * 127.5))


class PretrainedExtractor(FeatureExtractor):
    """A `PretrainedNetwork` for RGB images of any size."""

    network: PretrainedNetwork

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        return self.network.body(self.network.preprocess(batch))


def load_pretrained(
    name: str,
    network: type[PretrainedNetwork],
    path: Path,
    sha256: str | None,
    device: str | torch.device,
    micro_batch: int | None,
) -> PretrainedExtractor:
    """The extractor from a file with that sha256. Raises SkiptuneError, also if a package is missing."""
    digest = verified_weights(f"extractor '{name}'", path, network.weights.entry, sha256)
    built = network(read_state(path, network.hint))
    if micro_batch is None:  # measured: larger batches gain nothing on a CPU and fill up small sets
        micro_batch = 16 if torch.device(device).type == "cpu" else 64
    return PretrainedExtractor(built, name, digest, None, micro_batch, device)


def verified_weights(what: str, path: Path, entry: str, expected: str | None) -> str:
    """The sha256 of a file of weights.

    Raises:
        SkiptuneError: it is missing, or does not match `expected` or, without that, its download's record.
    """
    if not path.is_file():
        raise SkiptuneError(
            f"no {what}: its weights {path} are missing, get them with: python scripts/download.py {entry}"
        )
    record = Record.read(path) if expected is None else None
    wanted = record.sha256 if record else expected
    digest = file_digest(path)
    if wanted and not digest.startswith(wanted):
        raise SkiptuneError(
            f"{path} has sha256 {digest[:12]}, expected {wanted[:12]}: it is damaged or another file, "
            "get it again"
        )
    return digest


def read_state(path: Path, hint: str) -> dict[str, Tensor]:
    """The state dict of a file, bare or under "state_dict"; nothing in the file is executed.

    Raises:
        SkiptuneError: the file holds anything else, such as TorchScript or a pickled network.
    """
    try:
        content: Any = read_checkpoint(path)
    except SkiptuneError as error:
        raise SkiptuneError(f"{error}; {hint}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise SkiptuneError(f"{path} holds no state dict; {hint}")
    # Tensors of a mapped file may be unaligned, and change with it.
    return {str(key).removeprefix("module."): value.clone() for key, value in content.items()}


def load_into(network: nn.Module, state: Mapping[str, Tensor], hint: str) -> None:
    """Strict `load_state_dict`. Raises SkiptuneError in one line."""
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise unfit(network, error, hint) from error


def unfit(network: nn.Module | str, error: Exception, hint: str) -> SkiptuneError:
    """The one-line error for weights of another network."""
    kind = network if isinstance(network, str) else type(network).__name__
    lines = [line.strip() for line in str(error).splitlines()]
    reason = (lines[1] if len(lines) > 1 else lines[0])[:160]
    return SkiptuneError(f"the weights do not fit {kind} ({reason}); {hint}")


def library(module: str, package: str, extra: str = "") -> Any:
    """A kept library, imported when it is needed. Raises SkiptuneError naming what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SkiptuneError(
            f"{package} cannot be imported ({error}): install it with: pip install 'skiptune{extra}'"
        ) from error
