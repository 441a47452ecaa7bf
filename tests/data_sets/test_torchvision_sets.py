"""Small CIFAR-10 and CelebA in the official layouts; only torchvision's MD5 of the real files is replaced."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CelebA
from torchvision.transforms import functional as F

from skiptune.data import load_dataset
from skiptune.data.torchvision_sets import CelebA64, Cifar10
from skiptune.errors import SkiptuneError


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture()
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five batches of 4 images and one of 3, all pixels of image i equal to i."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    first = 0
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        count = 3 if name == "test_batch" else 4
        values = np.arange(first, first + count)
        data = np.repeat(values[:, None], 3072, axis=1).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": (values % 10).tolist()}))
        lists["test_list" if name == "test_batch" else "train_list"].append([name, md5(folder / name)])
        first += count
    meta = folder / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    for key, value in lists.items():
        monkeypatch.setattr(CIFAR10, key, value)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(meta)})
    return tmp_path


def test_cifar_is_in_the_order_of_its_batches(cifar: Path) -> None:
    data = load_dataset("cifar10", cifar)
    assert [data.size(split) for split in ("train", "reference", "heldout")] == [20, 20, 3]
    images, labels = data.batch(range(21), "reference")
    assert images.shape == (21, 3, 32, 32) and images.dtype == torch.uint8
    assert images[:, 2, 5, 7].tolist() == [*range(20), 0] and labels[:20].tolist() == [*range(10)] * 2
    assert data.batch(range(3), "heldout")[0][:, 0, 0, 0].tolist() == [20, 21, 22]
    assert load_dataset("cifar10", cifar) is data and data.digest == Cifar10(cifar).digest
    with pytest.raises(SkiptuneError, match="no split 'features'"):
        data.size("features")


def test_cifar_that_is_missing_or_another_says_where_it_belongs(cifar: Path) -> None:
    for root in (cifar / "nowhere", cifar):
        (cifar / CIFAR10.base_folder / "data_batch_3").write_bytes(b"other")
        with pytest.raises(SkiptuneError, match="files into .*cifar-10-batches-py") as caught:
            Cifar10(root)
        assert "\n" not in str(caught.value)


def test_celeba_is_cropped_and_resized_as_by_ddim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / CelebA.base_folder
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 7)]
    draw = np.random.default_rng(0)
    for name in names:
        coarse = Image.fromarray(draw.integers(0, 256, (14, 11, 3), dtype=np.uint8))
        coarse.resize((178, 218)).save(folder / "img_align_celeba" / name)
    one = "".join(f"{name} 1\n" for name in names)
    (folder / "identity_CelebA.txt").write_text(one)
    partition = zip(names, (0, 0, 1, 2, 0, 2), strict=True)
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in partition))
    for table in ("list_attr_celeba", "list_bbox_celeba", "list_landmarks_align_celeba"):
        (folder / f"{table}.txt").write_text(f"6\nattribute\n{one}")
    monkeypatch.setattr(CelebA, "file_list", [(i, None, name) for i, _, name in CelebA.file_list])

    data = load_dataset("celeba", tmp_path)
    assert (data.size("train"), data.size("heldout"), data.num_classes) == (3, 2, 0)
    images, _ = data.batch(range(3), "train")
    for image, name in zip(images, [names[0], names[1], names[4]], strict=True):
        picture = Image.open(folder / "img_align_celeba" / name)
        # The official transforms: rows 57 to 184, columns 25 to 152, then torchvision's Resize.
        expected = F.pil_to_tensor(F.resize(F.crop(picture, 57, 25, 128, 128), [64]))
        assert torch.equal(image, expected)
    before = data.digest
    Image.new("RGB", (178, 218)).save(folder / "img_align_celeba" / names[0])
    assert CelebA64(tmp_path).digest != before
    (folder / "img_align_celeba" / names[0]).unlink()
    with pytest.raises(SkiptuneError, match="cannot read .*000001.jpg"):
        data.batch([0], "train")
    with pytest.raises(SkiptuneError, match="CelebA cannot be read"):
        load_dataset("celeba", tmp_path / "nowhere")
