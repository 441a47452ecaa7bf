from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skiptune.data import load_dataset
from skiptune.data.arrays import ArrayImages
from skiptune.data.flips import Flipped, flips
from skiptune.data.folder import FolderImages
from skiptune.errors import SkiptuneError

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)
NAMES = [f"00000/img{i:08d}.png" for i in range(4)] + [f"00001/img{i:08d}.png" for i in range(3)]


@pytest.fixture()
def edm(tmp_path: Path) -> Path:
    """A folder and `edm.zip` as EDM's dataset_tool lays them out, with labels."""
    folder = tmp_path / "edm"
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    labels = [[name, i % 3] for i, name in enumerate(NAMES)]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels[::-1]}))
    with zipfile.ZipFile(tmp_path / "edm.zip", "w") as archive:
        for path in sorted(folder.rglob("*.*"), reverse=True):
            archive.write(path, path.relative_to(folder))
    return folder


def test_folder_and_zip_give_the_pixels_and_labels_in_the_order_of_names(edm: Path) -> None:
    for path in (edm, edm.with_suffix(".zip")):
        data = FolderImages(path)
        images, labels = data.batch(range(7), "train")
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), PIXELS)
        assert labels.tolist() == [i % 3 for i in range(7)]
        assert (data.size("reference"), data.num_classes, data.image_shape) == (7, 3, (3, 6, 5))
        assert torch.equal(data.batch([9, 2], "reference")[0], images[[2, 2]])
    assert FolderImages(edm).digest == FolderImages(edm.with_suffix(".zip")).digest


def test_digest_follows_pixels_and_labels(edm: Path) -> None:
    before = FolderImages(edm).digest
    Image.fromarray(PIXELS[0] ^ 1).save(edm / NAMES[0])
    changed = FolderImages(edm).digest
    (edm / "dataset.json").write_text('{"labels": null}')
    unlabelled = FolderImages(edm)
    assert len({before, changed, unlabelled.digest}) == 3
    assert unlabelled.num_classes == 0 and unlabelled.batch([0], "train")[1].tolist() == [0]


def test_classes_are_folders_only_on_request(edm: Path) -> None:
    (edm / "dataset.json").unlink()
    assert FolderImages(edm).num_classes == 0
    labelled = FolderImages(edm, class_folders=True)
    assert labelled.batch(range(7), "train")[1].tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert load_dataset("folder", edm).num_classes == 2
    Image.fromarray(PIXELS[0]).save(edm / "alone.png")
    assert FolderImages(edm, class_folders=True).num_classes == 0


def test_edm_zips_are_found_by_name(edm: Path) -> None:
    edm.with_suffix(".zip").rename(edm.parent / "imagenet-64x64.zip")
    data = load_dataset("imagenet64", edm.parent)
    assert data.name == "imagenet64" and data.size("reference") == 7
    assert load_dataset("imagenet64", edm.parent) is data
    with pytest.raises(SkiptuneError, match=r"afhqv2-64x64.zip with dataset_tool"):
        load_dataset("afhqv2", edm.parent)
    with pytest.raises(SkiptuneError, match="needs root"):
        load_dataset("folder")
    with pytest.raises(SkiptuneError, match="'x'; choose one of glyphs, .*ffhq$"):
        load_dataset("x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"labels": [["x.png", 0]]}', "of every picture"),
        ('{"labels": [[', "of every picture"),
        ("[]", "of every picture"),
        (json.dumps({"labels": [[name, -1] for name in NAMES]}), "not class numbers"),
        (json.dumps({"labels": [[name, [0.5]] for name in NAMES]}), "not class numbers"),
    ],
)
def test_labels_that_make_no_sense_are_one_line(edm: Path, content: str, message: str) -> None:
    (edm / "dataset.json").write_text(content)
    with pytest.raises(SkiptuneError, match=message) as caught:
        FolderImages(edm)
    assert "\n" not in str(caught.value)


def test_damaged_and_unequal_pictures_are_one_line(edm: Path) -> None:
    data = FolderImages(edm)
    Image.fromarray(PIXELS[0][:3]).save(edm / NAMES[2])
    with pytest.raises(SkiptuneError, match=r"img00000002.png is \[3, 3, 5\].*must be alike"):
        data.batch(range(7), "train")
    (edm / NAMES[2]).write_bytes(b"no picture")
    with pytest.raises(SkiptuneError, match="no readable picture"):
        data.batch([2], "train")
    with pytest.raises(SkiptuneError, match="no split 'test'"):
        data.batch([2], "test")
    content = bytearray(edm.with_suffix(".zip").read_bytes())
    content[content.index(b"IDAT") + 10] ^= 255  # inside a picture: its checksum no longer fits
    (edm.parent / "bad.zip").write_bytes(content)
    with pytest.raises(SkiptuneError, match="cannot read .*CRC"):
        FolderImages(edm.parent / "bad.zip").batch(range(7), "train")
    (edm.parent / "cut.zip").write_bytes(content[:200])
    with pytest.raises(SkiptuneError, match="no folder or zip"):
        FolderImages(edm.parent / "cut.zip")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_of_an_array_in_any_order(tmp_path: Path, save: object) -> None:
    path = tmp_path / "batch.npz"
    save(path, PIXELS, mu=np.zeros(3))  # type: ignore[operator]
    data = ArrayImages(path)
    images, _ = data.batch([5, 6, 0, 1, 1, 8], "reference")
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), PIXELS[[5, 6, 0, 1, 1, 1]])
    assert data.size("train") == 7 and data.image_shape == (3, 6, 5)
    np.savez(tmp_path / "same.npz", images=PIXELS)
    assert ArrayImages(tmp_path / "same.npz").digest == data.digest
    np.savez(tmp_path / "other.npz", images=PIXELS[::-1])
    assert ArrayImages(tmp_path / "other.npz").digest != data.digest


def test_arrays_that_are_no_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for array in (PIXELS.astype("f4"), PIXELS[0], PIXELS.transpose(0, 3, 1, 2), PIXELS[:0]):
        np.savez(path, array)
        with pytest.raises(SkiptuneError, match=r"expected an array \[N, H, W, C\] of uint8"):
            ArrayImages(path)
    np.savez(path, np.array([{}, {}], dtype=object))
    with pytest.raises(SkiptuneError, match="holds no images"):
        ArrayImages(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(SkiptuneError, match="no npz file"):
        ArrayImages(path)


def test_flips_are_fair_fixed_by_the_seed_and_only_for_training(edm: Path) -> None:
    coins = flips(range(100_000))
    assert abs(coins.mean() - 0.5) < 0.01 and abs((coins[1:] ^ coins[:-1]).mean() - 0.5) < 0.01
    assert np.array_equal(flips(range(500, 600)), coins[500:600])
    plain, flipped = FolderImages(edm), load_dataset("folder", edm, flip=True)
    assert isinstance(flipped, Flipped) and flipped.digest != plain.digest
    for start in (0, 7, 14):
        images, labels = flipped.batch(range(start, start + 7), "train")
        expected, classes = plain.batch(range(7), "train")
        mirrored = torch.from_numpy(coins[start : start + 7])
        assert torch.equal(images[mirrored], expected[mirrored].flip(-1))
        assert torch.equal(images[~mirrored], expected[~mirrored]) and torch.equal(labels, classes)
    assert torch.equal(flipped.batch(range(7), "reference")[0], plain.batch(range(7), "reference")[0])
