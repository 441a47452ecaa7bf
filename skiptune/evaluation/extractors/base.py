"""A feature extractor: a frozen network with a name and a digest, uint8 images in, features out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skiptune.data.images import from_uint8
from skiptune.errors import SkiptuneError


class FeatureExtractor:
    """uint8 images [N, C, H, W] -> {"features": [N, d], "logits": [N, K]} float32 on the CPU, no gradients.

    K is 0 where the network has no classes. The network always sees exactly `micro_batch` images, the last
    batch being filled up with zeros: kernels choose algorithms by batch size, so an image's features have the
    same bits in whatever set it comes. `network` (in evaluation mode, float images in [-1, 1]) is there for
    losses that need gradients. `image_shape` None: RGB images of any size.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        digest: str,
        image_shape: tuple[int, int, int] | None,
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
        check_uint8(images, self.image_shape, f"extractor {self.name}")
        parts: dict[str, list[Tensor]] = {"features": [], "logits": []}
        for batch in images.split(self.micro_batch):
            full = torch.zeros(self.micro_batch, *images.shape[1:], dtype=torch.uint8, device=self.device)
            full[: len(batch)] = batch
            outputs = self.embed(full)
            for key, part in parts.items():
                part.append(outputs[key][: len(batch)].float().cpu())
        return {key: torch.cat(part) for key, part in parts.items()}

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """Features and logits of one whole micro-batch uint8 on the device."""
        outputs: dict[str, Tensor] = self.network(from_uint8(batch))
        return outputs


def check_uint8(images: Tensor, shape: tuple[int, int, int] | None, who: str) -> None:
    """Raises SkiptuneError unless images are uint8 [N >= 1, *shape], or RGB of any size for shape None."""
    given = tuple(images.shape[1:])
    fits = given == shape if shape else len(given) == 3 and given[0] == 3 and min(given) > 0
    if images.dtype != torch.uint8 or not fits or len(images) == 0:
        wanted = str(list(shape)) if shape else "[3, height, width]"
        raise SkiptuneError(
            f"{who} takes uint8 images of shape {wanted}, "
            f"got {str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
        )
