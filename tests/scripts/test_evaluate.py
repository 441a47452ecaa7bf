"""The evaluation command on features and images of other programs."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from script_commands import Done, Server, Shell, written

Evaluate = Callable[..., Done]


@pytest.fixture()
def evaluate(server: Server, files: Path) -> Evaluate:
    """`python scripts/evaluate.py <arguments>` in the folder of the files."""
    return lambda *arguments: server.run(files, "evaluate.py", *arguments)


def result(done: Done) -> dict[str, object]:
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    return json.loads(done.out)


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
    np.savez(folder / "none.npz", features=a[:0])
    np.savez(folder / "wide.npz", features=np.hstack([a, a]))
    np.savez(folder / "objects.npz", features=np.array([[folder] * 24] * 9, dtype=object))
    (folder / "half.npz").write_bytes((folder / "a.npz").read_bytes()[:9000])
    pictures = draw.integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pictures)
    (folder / "pictures").mkdir()
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for i, pixels in enumerate(pictures):
            path = folder / f"pictures/{i:03}.png"
            Image.fromarray(pixels).save(path)
            archive.write(path, path.name)
    (folder / "half.zip").write_bytes((folder / "pictures.zip").read_bytes()[:9000])
    (folder / "mixed").mkdir()
    Image.fromarray(pictures[0]).save(folder / "mixed/a.png")
    Image.fromarray(pictures[0][:8]).save(folder / "mixed/b.png")
    (folder / "empty").mkdir()
    images = {"arr_0": pictures, "mu": b.mean(0), "sigma": np.cov(b, rowvar=False)}
    np.savez(folder / "adm.npz", **images)
    (folder / "checkpoints").mkdir()
    statistics = {"mu": b.mean(0), "sigma": np.cov(b, rowvar=False)}
    (folder / "checkpoints/edm2-img64.pkl").write_bytes(pickle.dumps({"fid": statistics, "num_images": 260}))
    (folder / "prompts.txt").write_text("a\n" * 39)
    return folder


def test_features_give_the_numbers_of_torch_fidelity(evaluate: Evaluate, files: Path) -> None:
    from torch import from_numpy
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    a, b = (from_numpy(np.load(files / f"{name}.npz")["features"]) for name in "ab")
    expected = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), False)
    found = result(
        evaluate("features=a.npz", "reference_features=b.npz", "metrics=[fid,is,precision_recall,kid]")
    )
    assert found["images"] == {"generated": 300, "reference": 260}
    assert set(found["metrics"]) == {"fid", "is", "precision", "recall", "kid"}
    assert found["protocol"]["extractor"] is None and "intervals" not in found
    fid = found["metrics"]["fid"]
    assert fid == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)
    for reference in ("statistics.npz", "fid_edm2_img64"):
        from_statistics = result(evaluate("features=a.npz", f"reference={reference}"))
        assert from_statistics["metrics"]["fid"] == pytest.approx(fid, rel=1e-5)
    assert result(evaluate("features=a.npz", "metrics=[is]"))["metrics"]["is"] == found["metrics"]["is"]


def test_protocols_reduce_blocks(evaluate: Evaluate) -> None:
    arguments = ("features=a.npz", "reference_features=b.npz", "metrics=[fid,is]")
    mean = result(evaluate(*arguments, "blocks=3"))
    fids = mean["blocks"]["fid"]
    assert len(fids) == 3 and mean["metrics"]["fid"] == pytest.approx(np.mean(fids))
    low, high = mean["intervals"]["fid"]
    assert low < mean["metrics"]["fid"] < high and high - low > max(fids) - min(fids)
    best = result(evaluate(*arguments, "protocol=edm_best_of_three"))
    assert best["blocks"] == mean["blocks"] and best["intervals"] == {}
    assert best["metrics"] == {"fid": min(fids), "is": max(mean["blocks"]["is"])}
    assert "here 3 x 100 images (published: 50,000" in best["protocol"]["description"]
    infinite = result(evaluate(*arguments, "protocol=fid_infinity"))
    assert infinite["metrics"]["fid"] < result(evaluate(*arguments))["metrics"]["fid"]


def test_images_of_any_origin_agree_and_are_seen_once(evaluate: Evaluate, files: Path) -> None:
    values = []
    for source in ("pictures", "pictures.zip", "images.npz"):
        arguments = (f"generated={source}", "reference=images.npz", "extractor=glyphs_cnn")
        found = result(evaluate(*arguments, "metrics=[fid,precision_recall]"))
        values.append(found["metrics"])
    assert values[0] == values[1] == values[2]
    assert values[0]["fid"] < 1e-6 and values[0]["precision"] == values[0]["recall"] == 1
    assert found["protocol"]["extractor"]["name"] == "glyphs_cnn"
    assert len(found["protocol"]["extractor"]["sha256"]) == 64
    assert found["protocol"]["rounding"] == "uint8 as stored" and "none" in found["protocol"]["resize"]
    before = written(files / "outputs")
    assert len([path for path in before if path.parent.name == "chunks"]) == 2  # the folder and zip are one
    result(evaluate("generated=pictures", "reference=pictures.zip", "extractor=glyphs_cnn", "metrics=[kid]"))
    assert written(files / "outputs") == before


def test_data_sets_by_name(evaluate: Evaluate) -> None:
    found = result(
        evaluate("generated=digits", "images=40", "reference=digits", "reference_images=60",
                 "extractor=digits_cnn", "metrics=[precision,accuracy]")
    )  # fmt: skip
    assert found["images"] == {"generated": 40, "reference": 60} and found["sources"] == ["digits"] * 2
    assert found["metrics"]["precision"] == 1 and found["metrics"]["accuracy"] > 0.9


def test_images_beside_statistics_are_used_where_features_are_needed(evaluate: Evaluate) -> None:
    same = ("generated=pictures", "extractor=glyphs_cnn", "metrics=[precision_recall]", "protocol=adm")
    assert result(evaluate(*same, "reference=adm.npz"))["metrics"] == {"precision": 1, "recall": 1}
    assert result(evaluate(*same[:-1], "reference_features=adm.npz", same[-1]))["metrics"]["recall"] == 1
    with_statistics = evaluate("features=a.npz", "reference=adm.npz")
    assert result(with_statistics)["images"] == {"generated": 300, "reference": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("features=a.npz", "give reference_features="),
        ("features=a.npz generated=pictures reference=b.npz", "one of the two"),
        ("features=gone.npz reference=b.npz", "gone.npz does not exist"),
        ("generated=gone reference=b.npz", "gone does not exist"),
        ("features=nan.npz reference_features=b.npz", "NaN"),
        ("features=none.npz reference_features=b.npz", "of 1 image or more"),
        ("features=wide.npz reference_features=b.npz", "48 and 24 features"),
        ("features=objects.npz reference_features=b.npz", "no npz file of plain arrays"),
        ("features=half.npz reference_features=b.npz", "no npz file of plain arrays"),
        ("features=b.npz reference_features=b.npz metrics=[is]", "an array 'logits'"),
        ("generated=half.zip reference=b.npz extractor=glyphs_cnn", "no folder or zip file"),
        ("features=other.npz reference_features=b.npz", "no array 'features', it has x"),
        ("features=a.npz reference=other.npz extractor=glyphs_cnn", "holds no images"),
        ("features=a.npz reference=statistics.npz metrics=[kid]", "kid needs the features"),
        (
            "features=a.npz reference_features=b.npz metrics=[fidd]",
            "'fidd', did you mean fid? choose one of acc",
        ),
        ("features=a.npz reference_features=b.npz metrics=[beauty]", ", hps_v2, immd, is, kid, lpips, mmd, "),
        ("features=a.npz reference_features=b.npz metrics=[]", "name at least one"),
        ("features=a.npz reference_features=b.npz metrics=5", "metrics are 5: name at least one"),
        ("features=a.npz reference_features=b.npz protocol=[x]", "protocol is ['x']: use a name"),
        ("generated=pictures reference=b.npz extractor=[x]", "extractor is ['x']: use a name"),
        ("features=[a.npz] reference=b.npz", "features is ['a.npz']: use a path"),
        ("features=a.npz reference=b.npz outputs=null", "outputs is None: use a path"),
        ("features=a.npz reference=b.npz workers=0", "workers is 0: use a whole number from 1"),
        ("features=a.npz reference=b.npz images=1.5", "images is 1.5: use a whole number from 1"),
        ("generated=pictures reference=b.npz class_folders=[1]", "class_folders is [1]: use true or false"),
        ("features=a.npz reference_features=b.npz blocks=7", "do not part into 7"),
        ("features=a.npz reference_features=b.npz blocks=x", "blocks is 'x'"),
        ("features=a.npz reference_features=b.npz blocks=2 protocol=adm", "made of 1 blocks, not of 2"),
        ("features=a.npz reference_features=b.npz protocol=best", "unknown protocol 'best'"),
        ("features=a.npz reference=fid_imagenet64", "download.py fid_imagenet64"),
        ("features=a.npz reference=inception_v3", "inception_v3 is no reference"),
        ("generated=mixed reference=b.npz extractor=glyphs_cnn", "all must be alike"),
        ("generated=empty reference=b.npz extractor=glyphs_cnn", "holds no pictures"),
        ("generated=pictures reference=b.npz", "download.py inception_v3"),
        ("generated=pictures reference=b.npz extractor=glyphs_cnn images=41", "41 images were asked for"),
        ("generated=pictures reference=pictures metrics=[lpips]", "download.py alexnet"),
        ("generated=pictures reference=mixed metrics=[lpips]", "equal names"),
        ("generated=pictures reference=statistics.npz metrics=[lpips]", "holds no images"),
        ("generated=pictures metrics=[hps_v2]", "prompts=FILE"),
        ("generated=pictures metrics=[hps_v2] prompts=prompts.txt", "got 39 for 40"),
        ("feature=a.npz", "is no setting"),
    ],
)
def test_mistakes_are_one_line(evaluate: Evaluate, arguments: str, message: str) -> None:
    done = evaluate(*arguments.split())
    assert done.code == 2 and done.out == ""
    errors = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0], done.err
    assert "Traceback" not in done.err


def test_work_is_split_over_processes(shell: Shell, files: Path, tmp_path: Path) -> None:
    arguments = ("generated=digits", "images=600", "reference=digits", "reference_images=300")
    commands = [
        (*arguments, "extractor=digits_cnn", f"workers={n}", f"outputs={tmp_path}/{n}") for n in (1, 2)
    ]
    one, two = (result(shell.run(files, "evaluate.py", *command)) for command in commands)
    assert one == two
    kept = [{p.name: p.read_bytes() for p in (tmp_path / n).rglob("*.safetensors")} for n in "12"]
    assert kept[0] == kept[1] and len(kept[0]) == 3


def test_comparing_many_images_is_divided_over_workers_with_equal_bits(
    evaluate: Evaluate, files: Path
) -> None:
    draw = np.random.default_rng(1)
    np.savez(files / "many.npz", features=draw.normal(size=(5000, 8)).astype("f4"))
    arguments = ("features=many.npz", "reference_features=many.npz", "metrics=[fid,precision_recall,mmd]")
    one, two = (result(evaluate(*arguments, f"workers={count}"))["metrics"] for count in (1, 2))
    assert one == two
    assert (one["precision"], one["recall"]) == (1, 1)
