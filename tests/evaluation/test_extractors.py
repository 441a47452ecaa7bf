from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from skiptune.checkpoints.desk import DESK_FOLDER
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import DESK_EXTRACTORS, dataset_features, load_extractor
from skiptune.training.classification import ClassifierTraining


@pytest.mark.parametrize("name", DESK_EXTRACTORS)
def test_shipped_weights_match_their_record_and_classify(name: str) -> None:
    extractor = load_extractor(name)
    record = json.loads((DESK_FOLDER / f"{name}.json").read_text())
    weights = DESK_FOLDER / f"{name}.safetensors"
    assert extractor.digest == record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert weights.stat().st_size < 1_000_000
    dataset = load_dataset(record["dataset"])
    kept = dataset_features(extractor, dataset, range(min(500, dataset.size("heldout"))), "heldout")
    assert (kept.logits.argmax(1) == kept.labels).double().mean() >= 0.97
    assert kept.features.shape[1] == 64 and kept.features.dtype == torch.float32


@pytest.mark.parametrize("name", DESK_EXTRACTORS)
def test_record_was_made_with_the_settings_of_that_name(name: str) -> None:
    record = json.loads((DESK_FOLDER / f"{name}.json").read_text())
    settings = ClassifierTraining.desk(name)
    assert record["settings"] == dataclasses.asdict(settings)
    assert record["heldout_accuracy"] >= 0.97 and record["loss_curve"][-1][1] < record["loss_curve"][0][1]


def test_bits_do_not_depend_on_the_company() -> None:
    extractor = load_extractor("glyphs_cnn", micro_batch=64)
    images, _ = load_dataset("glyphs").batch(range(150), "heldout")
    together = extractor(images)
    alone = extractor(images[70:71])
    assert torch.equal(together["features"][70:71], alone["features"])
    assert torch.equal(together["logits"][70:71], alone["logits"])
    assert len(together["features"]) == 150


def test_wrong_input_is_refused() -> None:
    extractor = load_extractor("digits_cnn")
    for images in (
        torch.zeros(2, 1, 8, 8),
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(0, 1, 8, 8).byte(),
    ):
        with pytest.raises(SkiptuneError, match=r"uint8 images of shape \[1, 8, 8\]"):
            extractor(images)


def test_missing_weights_name_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(SkiptuneError, match="no extractor 'inception'.*digits_cnn"):
        load_extractor("inception")
    with pytest.raises(SkiptuneError, match="none"):
        load_extractor("digits_cnn", tmp_path)


def copy_of(name: str, folder: Path) -> tuple[Path, Path]:
    paths = folder / f"{name}.safetensors", folder / f"{name}.json"
    for path in paths:
        shutil.copy(DESK_FOLDER / path.name, path)
    return paths


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    weights, record = copy_of("digits_cnn", tmp_path)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SkiptuneError, match="sha256"):
        load_extractor("digits_cnn", tmp_path)
    record.write_text("not JSON")
    with pytest.raises(SkiptuneError, match="not JSON"):
        load_extractor("digits_cnn", tmp_path)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    weights, record = copy_of("digits_cnn", tmp_path)
    for metadata in (
        {},
        {"architecture": "os.system", "kwargs": "{}"},
        {"architecture": "DeskCNN", "kwargs": "[]"},
    ):
        save_file({"x": torch.zeros(3)}, weights, metadata=metadata)
        record.write_text(json.dumps({"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}))
        with pytest.raises(SkiptuneError, match="no desk classifier"):
            load_extractor("digits_cnn", tmp_path)
