from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from experiments.tables.figures import BLUE, ORANGE, RhoCurve, RhoPoint, rho_curve, sample_grid
from skiptune.errors import SkiptuneError


def _pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def _has(pixels: np.ndarray, colour: str) -> bool:
    return bool((np.abs(pixels / 255 - np.array(to_rgb(colour))).max(axis=-1) < 0.01).any())


def _curve(title: str, paper: float | None) -> RhoCurve:
    selection = tuple(RhoPoint(r, 10 + 30 * (r - 0.7) ** 2) for r in (0.5, 0.6, 0.7, 0.8, 0.9))
    report = tuple(RhoPoint(r, v, v - 0.2, v + 0.2) for r, v in ((0.55, 10.1), (0.7, 9.5), (1.0, 12.0)))
    return RhoCurve(title, selection, report, selected=0.7, paper=paper)


def test_rho_curve_marks_selected_and_paper(tmp_path: Path) -> None:
    rho_curve(tmp_path / "both.png", [_curve("a", 0.55), _curve("b", 0.55)])
    pixels = _pixels(tmp_path / "both.png")
    assert pixels.shape[1] > pixels.shape[0] > 300
    assert _has(pixels, BLUE) and _has(pixels, ORANGE)
    rho_curve(tmp_path / "no_paper.png", [_curve("a", None)])
    assert not _has(_pixels(tmp_path / "no_paper.png"), ORANGE)


def test_rho_curves_are_four_a_line(tmp_path: Path) -> None:
    sizes = {}
    for count in (4, 5):
        rho_curve(tmp_path / f"{count}.png", [_curve(str(i), 0.55) for i in range(count)])
        sizes[count] = _pixels(tmp_path / f"{count}.png").shape
    assert sizes[5][1] == sizes[4][1] and sizes[5][0] > 1.6 * sizes[4][0]


def test_rho_curve_is_deterministic(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        rho_curve(tmp_path / name, [_curve("a", 0.55)])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_rho_curve_needs_points(tmp_path: Path) -> None:
    for curves in ([], [RhoCurve("a", (), ())]):
        with pytest.raises(SkiptuneError, match="at least one"):
            rho_curve(tmp_path / "x.png", curves)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
def test_sample_grid_shows_every_pixel_unchanged(tmp_path: Path, channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 6, channels, 8, 8), dtype=torch.uint8, generator=generator)
    sample_grid(tmp_path / "grid.png", images[0], images[1], columns=3, image_size=32)
    pixels = _pixels(tmp_path / "grid.png")
    for batch, left in zip(images, (6, 6 + 3 * 38 - 6 + 40), strict=True):
        for i, image in enumerate(batch):
            y, x = 44 + i // 3 * 38, left + i % 3 * 38
            shown = pixels[y : y + 32, x : x + 32]
            enlarged = image.expand(3, 8, 8).permute(1, 2, 0).numpy().repeat(4, axis=0).repeat(4, axis=1)
            assert np.array_equal(shown, enlarged)


def test_sample_grid_prints_labels(tmp_path: Path) -> None:
    images = np.full((4, 3, 16, 16), 255, dtype=np.uint8)
    sample_grid(tmp_path / "with.png", images, images, ["A", "B", "C", "D"], columns=4)
    sample_grid(tmp_path / "without.png", images, images, [" "] * 4, columns=4)
    labelled, blank = _pixels(tmp_path / "with.png"), _pixels(tmp_path / "without.png")
    assert labelled.shape == blank.shape
    changed = np.argwhere((labelled != blank).any(axis=-1))
    assert len(changed) > 50 and changed[:, 0].min() >= 44 and changed[:, 0].max() < 44 + 26


def test_sample_grid_refuses_wrong_images(tmp_path: Path) -> None:
    images = np.zeros((4, 3, 8, 8), dtype=np.uint8)
    with pytest.raises(SkiptuneError, match="uint8"):
        sample_grid(tmp_path / "x.png", images.astype(np.float32), images)
    with pytest.raises(SkiptuneError, match="differ"):
        sample_grid(tmp_path / "x.png", images, images[:2])
    with pytest.raises(SkiptuneError, match="3 labels for 4"):
        sample_grid(tmp_path / "x.png", images, images, ["a"] * 3)
