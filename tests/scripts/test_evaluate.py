"""The evaluation command on features and images of other programs, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "scripts/evaluate.py"


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(300, 24)).astype("f4"), draw.normal(0.2, 1.1, size=(260, 24)).astype("f4")
    np.savez(folder / "a.npz", features=a, logits=draw.normal(size=(300, 5)).astype("f4"))
    np.savez(folder / "b.npz", features=b)
    np.savez(folder / "statistics.npz", mu=b.mean(0), sigma=np.cov(b, rowvar=False))
    np.savez(folder / "nan.npz", features=np.full((300, 24), np.nan, "f4"))
    np.savez(folder / "other.npz", x=a)
    pictures = draw.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pictures)
    (folder / "pictures").mkdir()
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for i, pixels in enumerate(pictures):
            path = folder / f"pictures/{i:03}.png"
            Image.fromarray(pixels).save(path)
            archive.write(path, path.name)
    (folder / "mixed").mkdir()
    Image.fromarray(pictures[0]).save(folder / "mixed/a.png")
    Image.fromarray(pictures[0][:8]).save(folder / "mixed/b.png")
    (folder / "empty").mkdir()
    return folder


def test_features_give_the_numbers_of_torch_fidelity(files: Path) -> None:
    from torch import from_numpy
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    a, b = (from_numpy(np.load(files / f"{name}.npz")["features"]) for name in "ab")
    expected = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
    done = evaluate(
        f"features={files}/a.npz", f"reference_features={files}/b.npz",
        "metrics=[fid,is,precision_recall,kid]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["images"] == {"generated": 300, "reference": 260}
    assert set(found["metrics"]) == {"fid", "is", "precision", "recall", "kid"}
    assert found["metrics"]["fid"] == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)
    from_statistics = evaluate(f"features={files}/a.npz", f"reference={files}/statistics.npz")
    assert json.loads(from_statistics.stdout)["metrics"]["fid"] == pytest.approx(
        found["metrics"]["fid"], rel=1e-5
    )


def test_folder_zip_and_array_of_the_same_pictures_agree(files: Path) -> None:
    values = []
    for source in ("pictures", "pictures.zip", "images.npz"):
        done = evaluate(
            f"generated={files}/{source}", f"reference={files}/images.npz", "extractor=glyphs_cnn",
            "metrics=[fid,precision_recall]",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1
        values.append(json.loads(done.stdout)["metrics"])
    assert values[0] == values[1] == values[2]
    assert values[0]["fid"] < 1e-6 and values[0]["precision"] == values[0]["recall"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["features=a.npz"], "give reference_features="),
        (["features=a.npz", "generated=pictures", "reference=b.npz"], "one of the two"),
        (["features=gone.npz", "reference=b.npz"], "gone.npz does not exist"),
        (["features=nan.npz", "reference_features=b.npz"], "NaN"),
        (["features=other.npz", "reference_features=b.npz"], "no array 'features', it has x"),
        (["features=a.npz", "reference=other.npz", "extractor=glyphs_cnn"], "holds no images"),
        (["features=a.npz", "reference=statistics.npz", "metrics=[kid]"], "kid needs the features"),
        (["features=a.npz", "reference_features=b.npz", "metrics=[fud]"], "unknown metric 'fud'"),
        (["features=a.npz", "reference_features=b.npz", "metrics=[]"], "no metrics"),
        (["generated=mixed", "reference=b.npz", "extractor=glyphs_cnn"], "all must be alike"),
        (["generated=empty", "reference=b.npz", "extractor=glyphs_cnn"], "holds no pictures"),
        (["feature=a.npz"], "is no setting"),
    ],
)
def test_mistakes_are_one_line(files: Path, arguments: list[str], message: str) -> None:
    paths = ("features", "reference_features", "generated", "reference")
    given = [
        f"{key}={files}/{value}" if key in paths else f"{key}={value}"
        for key, _, value in (argument.partition("=") for argument in arguments)
    ]
    done = evaluate(*given)
    assert done.returncode == 2 and done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0], done.stderr
    assert "Traceback" not in done.stderr
