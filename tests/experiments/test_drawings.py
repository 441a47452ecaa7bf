"""Lines of metrics against a setting: one look a series, equal bytes, one line for what cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from experiments.bench import Bench
from experiments.drawings.effects import draw_effects
from experiments.drawings.lines import draw_lines, value_of
from experiments.drawings.logarithmic import logarithmic
from experiments.drawings.made import Made
from experiments.drawings.rho_curves import draw_rho_curves
from experiments.drawings.skip_coefficients import by_hand
from experiments.measurement import Result
from experiments.scale import Scale
from experiments.tables.config import FigureConfig
from experiments.tables.figures import BLUE, GREEN, ORANGE
from experiments.tables.read import parse_table
from skiptune.checkpoints.desk import load_desk_denoiser
from skiptune.errors import SkiptuneError
from skiptune.interventions import find_skip_sites
from skiptune.runtime.store import RunStore
from skiptune.runtime.workers import Workers

LINES: dict[str, Any] = {"x": "steps", "y": ["fid", "is"], "series": "rho_bottom", "caption": "FID and IS"}


@pytest.fixture
def made(composed: Callable[..., dict[str, Any]], scales: dict[str, Scale], tmp_path: Path) -> Made:
    """Two samplers; rho 0.6 and 0.8 with Heun, 0.8 and 1 with UniPC; the numbers are made up."""
    raw = composed()["table"]
    columns = [*raw["columns"], {"key": "is", "title": "IS", "kind": "metric"}]
    rows = [
        {
            "id": f"{sampler}_{{steps}}_{{rho}}", "label": f"{sampler} {{steps}} {{rho}}", "arm": sampler,
            "role": "class_conditional_edm", "sampler": {"name": sampler, "steps": "{steps}"},
            "intervention": {"name": "skip_tuning", "rho_bottom": "{rho}"},
            "expand": {"steps": [9, 5, 7], "rho": rhos},
        }
        for sampler, rhos in (("heun", [0.6, 0.8]), ("unipc", [0.8, 1.0]))
    ]  # fmt: skip
    raw |= {"columns": columns, "rows": rows, "tuning": None, "claims": [], "figures": []}
    config = parse_table(raw, "table")
    measured = {}
    for i, row in enumerate(config.rows):
        fid = 30 / row.sampler["steps"] * row.intervention["rho_bottom"]
        values = {"fid": [fid, 1.1 * fid, 0.9 * fid], "is": [5.0 + i, 5.2 + i, 5.1 + i]}
        bounds = ((0, 249), (250, 499), (500, 749))
        measured[row.id] = Result("f" * 20, "f" * 20, 9, values, bounds, None, 1.0, {})
    bench = Bench(RunStore(tmp_path / "store"), Workers(1))
    return Made(config, scales["desk"], bench, config.rows, {}, measured, {})


def draw(made: Made, path: Path, **change: Any) -> np.ndarray[Any, Any]:
    parameters = {key: value for key, value in {**LINES, **change}.items() if value is not None}
    assert draw_lines(path, FigureConfig("lines", "lines", parameters), made) == "FID and IS"
    return np.asarray(Image.open(path).convert("RGB"))


def has(pixels: np.ndarray[Any, Any], colour: str) -> bool:
    return bool((np.abs(pixels / 255 - np.array(to_rgb(colour))).max(axis=-1) < 0.01).any())


def test_equal_input_gives_equal_bytes(made: Made, tmp_path: Path) -> None:
    pixels = draw(made, tmp_path / "a.png", y=["fid"], log_x=True, log_y=True)
    draw(made, tmp_path / "b.png", y=["fid"], log_x=True, log_y=True)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    draw(made, tmp_path / "c.png", y=["fid"])
    assert (tmp_path / "c.png").read_bytes() != (tmp_path / "a.png").read_bytes()
    for colour in (BLUE, ORANGE, GREEN):  # 0.6, 0.8, 1.0
        assert has(pixels, colour)


def test_a_series_looks_the_same_in_every_panel(made: Made, tmp_path: Path) -> None:
    pixels = draw(made, tmp_path / "panels.png", panel="sampler", y=["fid"])
    height, width = pixels.shape[:2]
    plots = pixels[: int(0.8 * height)]  # the legend stands below
    heun, unipc = plots[:, : width // 2], plots[:, width // 2 :]
    assert [has(heun, colour) for colour in (BLUE, ORANGE, GREEN)] == [True, True, False]
    assert [has(unipc, colour) for colour in (BLUE, ORANGE, GREEN)] == [False, True, True]


def test_more_metrics_and_panels_take_more_room(made: Made, tmp_path: Path) -> None:
    one = draw(made, tmp_path / "1.png", y=["fid"], series=None, arms=["heun"])
    two = draw(made, tmp_path / "2.png")
    four = draw(made, tmp_path / "4.png", panel="sampler")
    assert two.shape[1] > one.shape[1]
    assert four.shape[1] == two.shape[1] and four.shape[0] > two.shape[0]  # two by two
    assert has(one, BLUE) and not has(one, ORANGE)


def test_one_block_has_no_interval_but_a_line(made: Made, tmp_path: Path) -> None:
    measured = {
        id: replace(r, blocks={name: values[:1] for name, values in r.blocks.items()}, bounds=((0, 249),))
        for id, r in made.measured.items()
    }
    assert has(draw(replace(made, measured=measured), tmp_path / "x.png"), BLUE)


def test_over_the_baseline_values_are_ratios_paired_by_block(made: Made, tmp_path: Path) -> None:
    row, base = (made.config.row(id) for id in ("heun_5_0.6", "heun_5_0.8"))
    row = replace(row, baseline=base.id)
    value = value_of(made, row, "fid", "ratio")  # the blocks differ alike, so the ratio has no spread
    assert value.low is not None and value.high is not None
    assert value.low == pytest.approx(value.value) == pytest.approx(0.75) == pytest.approx(value.high)
    assert value_of(made, row, "fid", None) == made.measured[row.id].value("fid")
    drawn = replace(made, rows=(row, base))
    pixels = draw(drawn, tmp_path / "x.png", over_baseline=True, y=["fid"])
    assert has(pixels, BLUE) and not has(pixels, ORANGE)  # the row without a baseline is not drawn


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": None}, "figure lines: missing key 'x'"),
        ({"y": "fid"}, "figure lines.y: expected a list"),
        ({"caption": None}, "figure lines: missing key 'caption'"),
        ({"colour": "red"}, "figure lines: unknown key 'colour'"),
        ({"log_x": "yes"}, "figure lines.log_x: expected true or false"),
        ({"x": "sampler"}, "x of a figure of lines must be a number, but sampler is 'heun'"),
    ],
)
def test_wrong_settings_are_one_clear_line(
    made: Made, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(SkiptuneError) as caught:
        draw(made, tmp_path / "x.png", **change)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "x.png").exists()


def test_nothing_was_searched_nothing_is_drawn(made: Made, tmp_path: Path) -> None:
    assert draw_rho_curves(tmp_path / "x.png", FigureConfig("rho_curves", "rho", {}), made) is None
    assert not (tmp_path / "x.png").exists()


def test_coefficients_drawn_are_those_of_the_row() -> None:
    sites = find_skip_sites(load_desk_denoiser("edm_glyphs").denoiser)
    settings = {"name": "skip_tuning", "rho_bottom": 0.2, "rho_top": 0.6}
    rho = by_hand(settings, sites)
    assert len(rho) == len(sites) and (rho[0], rho[-1]) == (0.2, 0.6) and list(rho) == sorted(rho)
    assert by_hand({**settings, "time_direction": "increasing"}, sites) == rho
    assert by_hand({**settings, "bottom_first": False}, sites) == rho[::-1]
    matching = by_hand({**settings, "reading": "matching"}, sites)
    assert [value == 1 for value in matching] == [not site.matching for site in sites]
    assert 0 < sum(site.matching for site in sites) < len(sites)


def test_ticks_of_logarithmic_axes() -> None:
    def ticks(high: float, at: tuple[float, ...] = ()) -> list[str]:
        axes = Figure().add_subplot()
        axes.plot([1, 2], [100, high])
        logarithmic(axes.yaxis, at)
        places, (low, top) = axes.get_yticks(), axes.get_ylim()
        labels = axes.yaxis.get_major_formatter().format_ticks(places)
        return [label for label, place in zip(labels, places, strict=True) if low <= place <= top]

    assert ticks(1000, (100, 200, 500, 1000)) == ["100", "200", "500", "1,000"]
    assert {"300", "600"} <= set(ticks(700))
    assert ticks(7000) == ["100", "200", "500", "1,000", "2,000", "5,000"]
    assert ticks(10**5) == ["100", "1,000", "10,000", "100,000"]


def draw_gains(made: Made, path: Path, **change: Any) -> np.ndarray[Any, Any]:
    parameters = {"metrics": ["fid", "is"], "caption": "gains", **change}
    assert draw_effects(path, FigureConfig("effects", "gains", parameters), made) == "gains"
    return np.asarray(Image.open(path).convert("RGB"))


def test_effects_are_differences_or_ratios_where_there_are_any(made: Made, tmp_path: Path) -> None:
    first, *others = made.rows
    made = replace(made, rows=(first, *(replace(row, baseline=first.id) for row in others)))
    plain = draw_gains(made, tmp_path / "plain.png")
    ratios = draw_gains(made, tmp_path / "ratios.png", over_baseline=True)
    assert has(plain, BLUE) and has(plain, ORANGE) and has(ratios, BLUE) and has(ratios, ORANGE)
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "ratios.png").read_bytes()

    made.measured[first.id].blocks["is"][0] = -5.0  # a ratio to it means nothing
    assert has(draw_gains(made, tmp_path / "plain.png"), ORANGE)
    assert not has(draw_gains(made, tmp_path / "ratios.png", over_baseline=True), ORANGE)
    with pytest.raises(SkiptuneError, match="linear_within is of differences, not of ratios"):
        draw_gains(made, tmp_path / "x.png", over_baseline=True, linear_within=1.0)
