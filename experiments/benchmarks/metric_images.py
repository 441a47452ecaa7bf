"""Five metrics of images: one pass of ours against one run of torch-fidelity per metric."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch_fidelity
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from skiptune.evaluation import FeatureExtractor, FeatureSet, Reference, load_extractor
from skiptune.evaluation.metrics import compute_metrics

BATCH = 16
FIVE = ("fid", "is", "precision", "recall", "kid")


class Pictures(Dataset[Tensor]):
    """uint8 pictures [3, 64, 64] of smooth noise, made once: what torch-fidelity takes as an input."""

    def __init__(self, count: int, seed: int) -> None:
        noise = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        smooth = nn.functional.interpolate(noise, size=(64, 64), mode="bilinear")
        self.images = (127.5 + 50 * smooth).clamp(0, 255).byte()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def random_inception(folder: Path) -> Path:
    """Inception-V3 with random weights that keep the variance, in torch-fidelity's file format."""
    torch.save({}, folder / "empty.pth")

    # Only its constructor knows the network, and it loads a file: this one refuses nothing and gives nothing.
    class Initialised(FeatureExtractorInceptionV3):  # type: ignore[misc,unused-ignore]
        def load_state_dict(self, *args: object, **kwargs: object) -> None:
            """Keeps the random weights."""

    network = Initialised("inception-v3-compat", ["2048"], str(folder / "empty.pth"))
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    path = folder / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


def image_contestants(count: int, weights: Path) -> dict[str, Callable[[], float]]:
    """The sum of the five metrics of pictures against as many others, by us and by torch-fidelity."""
    sample, real = Pictures(count, 1), Pictures(count, 2)

    def ours() -> float:
        extractor = load_extractor("inception_v3", weights=weights, micro_batch=BATCH)
        ours, theirs = (_features(extractor, side.images) for side in (sample, real))
        return sum(compute_metrics(FIVE, ours, Reference.from_features(theirs)).values())

    def peer() -> float:
        return sum(_peer_run(metric, sample, real, weights) for metric in ("fid", "isc", "kid", "prc"))

    return {"ours": ours, "torch-fidelity": peer}


def _features(extractor: FeatureExtractor, images: Tensor) -> FeatureSet:
    return FeatureSet.cat([FeatureSet(**extractor(batch)) for batch in images.split(BATCH)])


def _peer_run(metric: str, sample: Pictures, real: Pictures, weights: Path) -> float:
    """One run of theirs; `prc` gives precision and recall."""
    found = torch_fidelity.calculate_metrics(
        input1=sample,
        input2=real,
        **{metric: True},
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        kid_subset_size=min(1000, len(sample)),
        batch_size=BATCH,
        cuda=False,
        cache=False,
        verbose=False,
    )
    return float(sum(value for name, value in found.items() if not name.endswith(("_std", "f_score"))))
