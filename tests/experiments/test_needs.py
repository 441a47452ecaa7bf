"""What a table needs is what its dry run says, and the list adds it up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.cost import dry_run
from experiments.needs import SUSTAINED_TFLOPS, Need, Needs, RowNeeds, needs_of
from experiments.needs_report import needs_list
from experiments.scale import Scale
from experiments.tables.read import parse_table
from skiptune.checkpoints.fetching.official import OfficialFile
from skiptune.errors import SkiptuneError


def official(name: str, **values: Any) -> OfficialFile:
    usual = {"file": f"{name}.pkl", "format": "pickle", "system": "s", "role": "r", "licence": "free"}
    return OfficialFile.of(name, {**usual, "urls": [f"https://x.example/{name}"], **values})


def row(images: int, gpu_hours: float) -> RowNeeds:
    return RowNeeds("row", "model", images, 9, gpu_hours * 3600 * SUSTAINED_TFLOPS * 1e3)


@pytest.mark.parametrize("name", ["desk", "paper"])
def test_agrees_with_the_dry_run(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale], name: str
) -> None:
    table = parse_table(composed()["table"], "table")
    needs, text = needs_of(table, scales[name]), dry_run(table, scales[name])
    assert f"images in total: {needs.images}" in text
    assert (f"estimate: {needs.gpu_hours:.1f} GPU-hours" in text) == (name == "paper")
    assert len(needs.files) == text.count("(missing): ")
    assert all(f"{file} (missing): {need.origin}" in text for file, need in needs.files.items())


def test_unknown_kind_of_measurement(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale]
) -> None:
    raw = composed()["table"]
    raw["rows"][1]["measure"] = {"kind": "nothing"}
    with pytest.raises(SkiptuneError, match="unknown kind of measurement 'nothing'; choose one of samples"):
        needs_of(parse_table(raw, "table"), scales["paper"])


def test_features_of_a_row_are_needed_too(
    composed: Callable[..., dict[str, Any]], scales: dict[str, Scale]
) -> None:
    raw, paper = composed()["table"], scales["paper"]
    usual = needs_of(parse_table(raw, "table"), paper)
    raw["rows"][0]["measure"] = {"kind": "samples", "features": "clip_vitl14_336"}
    needs = needs_of(parse_table(raw, "table"), paper)
    file = paper.extractors["clip_vitl14_336"]["file"]
    assert file not in usual.files and set(needs.files) == {*usual.files, file}
    raw["rows"][0]["measure"]["features"] = "vgg"
    with pytest.raises(SkiptuneError, match="no features is called 'vgg'"):
        needs_of(parse_table(raw, "table"), paper)


def test_list_adds_up(tmp_path: Path) -> None:
    (tmp_path / "b.pkl").write_bytes(b"")
    (tmp_path / "e.safetensors").write_bytes(b"")
    url = "https://x.example"
    a, b, c = (Need(f"{url}/{name}") for name in "abc")
    made = {f"{name}.safetensors": Need("train it", made_here=True) for name in "gef"}
    tables = {
        "p 01": Needs((row(60, 1.0), row(40, 0.5)), {"a.pkl": a, "b.pkl": b}, frozenset({"json"})),
        "p 02": Needs((row(50, 2.0),), {"a.pkl": a, "c.pkl": c, **made}, frozenset({"no_such_module"})),
        "p 03": "wrong",
    }
    known = [official("a", size=2_000_000), official("b", size=7_000_000), official("d", size=1)]
    lines = [line.strip() for line in needs_list(tables, known, tmp_path, None).splitlines()]
    by_name = {line[:36].strip(): line[36:].strip() for line in lines}
    assert by_name["p 01"] == "100 images      1.5 GPU-h  1 of 2 files missing"
    assert by_name["p 03"] == "broken config: wrong"
    assert any(line.startswith("in total 150 images, 3.5 GPU-hours") for line in lines)
    assert f"a.pkl: missing, 2 MB, free; python scripts/download.py a ({url}/a)" in lines
    assert f"c.pkl: missing, size unknown, {url}/c" in lines
    assert "to download: about 2 MB, 2 files, and 1 of unknown size" in lines
    assert "f.safetensors: missing, made here; train it" in lines
    assert "e.safetensors: here, made here; train it" in lines
    assert "to be made here, published nowhere: f.safetensors, g.safetensors" in lines
    assert lines[lines.index("Missing on this machine") + 1 :] == [
        "file a.pkl",
        "file c.pkl",
        "file g.safetensors",
        "file f.safetensors",
        "package no_such_module",
        "a GPU",
        "a sound configuration of p 03",
    ]


def test_nothing_missing(tmp_path: Path) -> None:
    text = needs_list(
        {"p 01": Needs((row(1, 0.0),), {}, frozenset({"json"}))}, [], tmp_path, "a GPU of 80 GB"
    )
    assert text.splitlines()[-1].strip() == "nothing" and "all files here" in text
