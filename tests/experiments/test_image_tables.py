"""Tables of images: what stands where, at any size; drawn from small stored runs with their numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.bench import Bench
from experiments.drawings.image_table import SPACE, Cell, Line, image_table, text_width
from experiments.drawings.made import Made
from experiments.drawings.sample_table import in_brief
from experiments.make_table import make_table
from experiments.registry import drawing, measurement
from experiments.scale import Scale
from experiments.tables.config import FigureConfig, TableConfig
from experiments.tables.read import parse_table
from experiments.values import Value
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError

Pixels = np.ndarray[Any, Any]
DIGITS = "unconditional_edm"


def pixels(path: Path) -> Pixels:
    return np.asarray(Image.open(path).convert("RGB"))


def digits(*numbers: int) -> torch.Tensor:
    """Images ``[N, 1, 8, 8]`` that differ."""
    return load_dataset("digits").batch(list(numbers), "reference")[0]


def enlarged(image: torch.Tensor, factor: int) -> Pixels:
    grey = np.asarray(image[0]).repeat(factor, 0).repeat(factor, 1)
    return np.stack([grey] * 3, -1)


def places(canvas: Pixels, block: Pixels) -> list[tuple[int, int]]:
    """(top, left) of every exact occurrence."""
    height, width = (canvas.shape[i] - block.shape[i] + 1 for i in (0, 1))
    here, red = np.ones((height, width), dtype=bool), np.ascontiguousarray(canvas[..., 0])
    for y in range(0, len(block), 8):  # the rows and columns of few pixels leave few places to look at
        for x in range(0, block.shape[1], 8):
            here &= red[y : y + height, x : x + width] == block[y, x, 0]
    hits = [(int(y), int(x)) for y, x in zip(*np.nonzero(here), strict=True)]
    size = block.shape
    return [(y, x) for y, x in hits if (canvas[y : y + size[0], x : x + size[1]] == block).all()]


def test_every_image_is_where_its_line_and_column_are(tmp_path: Path) -> None:
    images = digits(0, 1, 2, 3)
    lines = [
        Line("upper", [Cell(images[:2], "FID 1.0"), Cell(images[2:3])]),
        Line("lower", [None, Cell(images[3:])], apart=True),
    ]
    image_table(tmp_path / "a.png", lines, ["10 steps", "20 steps"], across=2, image_size=16)
    canvas = pixels(tmp_path / "a.png")
    found = [places(canvas, enlarged(image, 2)) for image in images]
    assert [len(places) for places in found] == [1, 1, 1, 1]
    (y0, x0), (y1, x1), (y2, x2), (y3, x3) = (places[0] for places in found)
    assert y0 == y1 == y2 and y3 > y0 + 16 + SPACE  # one line, and the next one apart from it
    assert x1 == x0 + 16 + 4 and x2 > x1 + 16 and x3 == x2
    image_table(tmp_path / "b.png", lines, ["10 steps", "20 steps"], across=2, image_size=16)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(("side", "size"), [(8, 64), (64, 64), (32, 16)])
def test_texts_have_the_room_they_need_at_any_size_of_image(tmp_path: Path, side: int, size: int) -> None:
    images = torch.randint(255, (1, 3, side, side), dtype=torch.uint8)
    label, note = "S2-DM, skip 10, PNDM", "FID 12.3 [11.1, 13.4]"
    image_table(
        tmp_path / "a.png", [Line(label, [Cell(images, note)])], ["10 steps"], across=4, image_size=size
    )
    canvas = pixels(tmp_path / "a.png")
    factor = max(1, size // side)
    block = np.asarray(images[0].permute(1, 2, 0)).repeat(factor, 0).repeat(factor, 1)
    ((top, left),) = places(canvas, block)
    assert (canvas[top : top + len(block), left : left + len(block)] == block).all()  # not resampled
    assert left > text_width(label, 9.0) and canvas.shape[1] - left > block.shape[1]
    # Neither the label nor the texts above touch an edge of the picture, or the image.
    assert (canvas[:, :8] == 255).all() and (canvas[:, -8:] == 255).all() and (canvas[:2] == 255).all()
    assert (canvas[top - 2 : top, :] == 255).all() and (canvas[:, left - 8 : left] != 255).any()
    beside = canvas[top : top + len(block), : left - 8]
    assert (beside < 128).any()  # the label is there


@pytest.mark.parametrize(
    "lines", [[], [Line("a", [None])], [Line("a", [Cell(torch.zeros(1, 1, 2, 2).byte())] * 2)]]
)
def test_a_table_without_images_or_of_another_width_is_refused(tmp_path: Path, lines: list[Line]) -> None:
    with pytest.raises(SkiptuneError, match="a table of images needs images, and 1 cells in every line"):
        image_table(tmp_path / "x.png", lines, ["10"], across=1)
    assert not (tmp_path / "x.png").exists()


def test_numbers_in_brief() -> None:
    value = Value(12.345, 11.04, 13.6, 3, ((0, 249),))
    assert in_brief(value) == "12.3 [11, 13.6]"
    assert in_brief(replace(value, low=None, high=None)) == "12.3"


def table(rows: list[dict[str, Any]], figures: list[dict[str, Any]], *metrics: str) -> TableConfig:
    columns = [{"key": key, "title": key.upper(), "kind": "metric"} for key in metrics]
    columns.append({"key": "steps", "title": "steps", "kind": "setting"})
    return parse_table(
        {"paper": "s2dm", "figure": 4, "title": "pictures", "dataset": "none", "columns": columns,
         "rows": rows, "figures": figures},
        "table",
    )  # fmt: skip


def made_of(config: TableConfig, desk: Scale, bench: Bench) -> Made:
    desk = desk.with_seeds({"report": {"first": 250, "count": 1, "size": 250}})
    measurements = {
        row.id: measurement(desk, row, row.intervention, desk.report, row.metrics or config.metrics)
        for row in config.rows
    }
    measured = dict(zip(measurements, bench.measure(list(measurements.values())), strict=True))
    return Made(config, desk, bench, config.rows, measurements, measured, {})


def test_samples_by_model_and_steps(scales: dict[str, Scale], bench: Bench, tmp_path: Path) -> None:
    rows = [
        {"id": f"{name}_{{steps}}", "label": f"{name} {{steps}}", "arm": name, "role": DIGITS,
         "sampler": {"name": name, "steps": "{steps}"}, "expand": {"steps": steps}}
        for name, steps in (("euler", [1, 2]), ("heun", [2]))
    ]  # fmt: skip
    parameters = {"x": "steps", "count": 12, "across": 4, "caption": "Samples"}
    config = table(rows, [], "fid")
    made = made_of(config, scales["desk"], bench)
    figure = FigureConfig("sample_table", "samples", parameters)
    assert drawing(figure)(tmp_path / "s.png", figure, made) == "Samples"
    canvas = pixels(tmp_path / "s.png")
    at = {}
    for id in ("euler_2", "euler_1", "heun_2"):
        images = made.measurements[id].samples(bench.store).images  # type: ignore[attr-defined]
        at[id] = [places(canvas, enlarged(image, 8))[0] for image in images[:12]]
        assert {y for y, _ in at[id]} == {at[id][i][0] for i in (0, 4, 8)}
    assert at["euler_1"][0][0] == at["euler_2"][0][0] < at["heun_2"][0][0]
    assert at["euler_1"][0][1] < at["euler_2"][0][1] == at["heun_2"][0][1]
    figure = FigureConfig("sample_table", "samples", {**parameters, "count": "many"})
    with pytest.raises(SkiptuneError, match="figure samples.count: expected a whole number"):
        drawing(figure)(tmp_path / "x.png", figure, made)


def paths_table(*figures: dict[str, Any]) -> TableConfig:
    row = {
        "id": "{path}", "label": "{path}", "arm": "EDM", "role": DIGITS,
        "sampler": {"name": "euler", "steps": 1}, "expand": {"path": ["spherical", "linear"]},
        "measure": {"kind": "interpolation", "path": "{path}", "points": 5},
    }  # fmt: skip
    return table([row], list(figures), "monotone", "largest")


def test_paths_below_one_another(scales: dict[str, Scale], bench: Bench, tmp_path: Path) -> None:
    figure = {"draw": "interpolation", "name": "arc", "path": "spherical", "paths": 2, "caption": "Paths"}
    config = paths_table(figure)
    desk = scales["desk"].with_seeds({"report": {"first": 250, "count": 2, "size": 250}})
    result = make_table(config, desk, bench, tmp_path)
    row = result.row("spherical")
    assert row is not None and row.nfe == 1
    assert 0 <= row.values["monotone"].value <= 1 and row.values["largest"].value > 0.25
    canvas = pixels(tmp_path / "desk/s2dm/figure_04_arc.png")
    made = made_of(config, desk, bench)
    run = measurement(desk, config.row("spherical"), {"name": "none"}, desk.report, ("monotone",)).settings
    images = run.compute(range(250, 500))["images"][:10]
    at = [places(canvas, enlarged(image, 8)) for image in images]
    assert all(len(place) >= 1 for place in at)
    assert len({place[0][0] for place in at[:5]}) == 1 and len({place[0][1] for place in at[:5]}) == 5
    assert at[5][0][0] > at[0][0][0] + SPACE and at[5][0][1] == at[0][0][1]
    for change, words in (
        ({"paths": 5}, "figure arc: paths is 5, of which 1 to 4 are kept"),
        ({"path": "curved"}, "figure arc: no row interpolates along a curved path"),
    ):
        parameters = {
            key: value for key, value in {**figure, **change}.items() if key not in ("draw", "name")
        }
        wrong = FigureConfig("interpolation", "arc", parameters)
        with pytest.raises(SkiptuneError, match=words):
            drawing(wrong)(tmp_path / "x.png", wrong, made)
