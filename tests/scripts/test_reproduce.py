"""scripts/reproduce.py: a small table from end to end, the configuration printed, the dry run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from script_commands import Done, Server, Shell, written

from experiments import config_files
from experiments.references import FLOOR_BLOCKS
from experiments.tables.contract import validate_table_json
from scripts import reproduce
from skiptune.errors import SkiptuneError

# The selected rho can only be the paper's, so that both rows are one run of the store.
GRIDS = ("table.tuning.grids.heun_selected=[0.55]", "table.tuning.grids.unipc_selected=[0.68]")
SMALL = (
    "table=skip_tuning/2",
    "scale.seeds.report={first: 0, count: 2, size: 250}",
    "scale.seeds.select={first: 1000000, count: 1, size: 250}",
    "scale.roles.class_conditional_edm.reference_images=300",
    "tracker=none",
    *GRIDS,
)


@dataclass(frozen=True)
class Table:
    """A reproduced table: the folder with `outputs` and `results`, and what was printed."""

    folder: Path
    done: Done

    @property
    def files(self) -> Path:
        return self.folder / "results/desk/skip_tuning"

    def data(self) -> dict[str, Any]:
        return json.loads((self.files / "table_02.json").read_text())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, shell: Shell) -> Table:
    folder = tmp_path_factory.mktemp("table")
    return Table(folder, shell.run(folder, "reproduce.py", *SMALL, "workers=2"))


def test_table_is_written_and_follows_the_contract(table: Table) -> None:
    assert table.done.code == 0, table.done.err
    data = table.data()
    validate_table_json(data)
    *rows, floor = data["rows"]
    assert len(rows) == 6 and all(row["nfe"] == 9 for row in rows)
    assert floor["nfe"] == 0
    assert [row["settings"]["rho_bottom"] for row in rows] == [1.0, 0.55, 0.55, 1.0, 0.68, 0.68]
    for row in data["rows"]:
        assert row["values"]["fid"]["n"] == (FLOOR_BLOCKS if row is floor else 2)
        for identity in row["record"]:
            assert (table.folder / f"outputs/runs/{identity}/record.json").exists() or list(
                (table.folder / f"outputs/runs/{identity}/chunks").iterdir()
            )
    assert [claim["id"] for claim in data["claims"]] == ["ST-C1"]


def test_equal_rows_are_one_run(table: Table) -> None:
    rows = {row["label"]: row for row in table.data()["rows"]}
    pair = [row for label, row in rows.items() if label.startswith("UniPC, Skip-Tuning")]
    assert len(pair) == 2 and pair[0]["record"][:2] == pair[1]["record"][:2]
    kinds = [json.loads(p.read_text())["kind"] for p in table.folder.glob("outputs/runs/*/settings.json")]
    assert kinds.count("sampling") == 4  # both samplers, with and without


def test_every_file_is_there_and_named(table: Table) -> None:
    files = {path.name for path in table.files.iterdir()}
    wanted = {f"table_02.{suffix}" for suffix in ("md", "csv", "json")}
    assert files == wanted | {"table_02_rho.png", "table_02_samples.png"}
    assert (table.folder / "results/README.md").is_file()
    assert {path.name for path in table.folder.iterdir()} == {"outputs", "results"}
    for name in files:
        assert f"wrote results/desk/skip_tuning/{name}" in table.done.out
    assert "ST-C1" in table.done.out and "35.12" in table.done.out
    for path in table.files.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_second_call_computes_nothing(table: Table, server: Server) -> None:
    before, data = written(table.folder / "outputs"), table.data()
    again = server.run(table.folder, "reproduce.py", *SMALL, "workers=1")
    assert (again.code, again.err) == (0, "")
    assert written(table.folder / "outputs") == before
    assert table.data() == data


@pytest.mark.parametrize("scale", ["desk", "paper"])
def test_configuration_can_be_printed(server: Server, tmp_path: Path, scale: str) -> None:
    done = server.run(tmp_path, "reproduce.py", "table=skip_tuning/2", f"scale={scale}", "--cfg", "job")
    assert (done.code, done.err) == (0, "")
    config = yaml.safe_load(done.out)
    assert config["scale"]["name"] == scale and config["table"]["table"] == 2
    assert not list(tmp_path.iterdir())


def test_dry_run_says_what_the_paper_scale_needs(server: Server, tmp_path: Path) -> None:
    done = server.run(tmp_path, "reproduce.py", "table=skip_tuning/2", "scale=paper", "dry_run=true")
    assert (done.code, done.err) == (0, "")
    for wanted in (
        "https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/edm-imagenet-64x64-cond-adm.pkl",
        "https://nvlabs-fi-cdn.nvidia.com/edm/fid-refs/imagenet-64x64.npz",
        "(missing)",
        "50000 images x 9 NFE",
        "images in total: 200000",
        "GPU-hours",
        "not measured",
    ):
        assert wanted in done.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "more", [["table=skip_tuning/2"], ["table=skip_tuning/2,skip_tuning/3", "rows=each"]]
)
def test_dry_run_starts_nothing(server: Server, tmp_path: Path, more: list[str]) -> None:
    """There is no SLURM here: submitting anything would fail."""
    done = server.run(tmp_path, "reproduce.py", "-m", *more, "launcher=slurm", "dry_run=true")
    assert (done.code, done.err) == (0, "")
    assert done.out.count(" at scale ") == done.out.count("images in total") == len(more)


def test_dry_run_of_some_rows(server: Server, tmp_path: Path) -> None:
    some = ("table=skip_tuning/2", "rows=[heun_baseline,unipc_baseline]", "dry_run=true")
    done = server.run(tmp_path, "reproduce.py", *some)
    assert done.code == 0 and done.out.count(" images x ") == 2
    assert "images in total: 7500\n" in done.out


def test_paper_scale_without_checkpoint(server: Server, tmp_path: Path) -> None:
    done = server.run(tmp_path, "reproduce.py", "table=skip_tuning/2", "scale=paper", "tracker=none")
    assert "edm-imagenet-64x64-cond-adm.pkl" in done.error_line()
    assert "https://" in done.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.fixture
def papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration tree of a paper with tables, figures and an appendix."""
    folder = tmp_path / "table" / "skip_tuning"
    folder.mkdir(parents=True)
    for name in ("02", "11", "figure_04", "figure_12", "appendix_c"):
        (folder / f"{name}.yaml").touch()
    monkeypatch.setattr(config_files, "CONFIGS", tmp_path)
    return folder


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("2", "02"), ("02", "02"), ("11", "11"), ("figure_4", "figure_04"), ("figure_04", "figure_04"),
        ("figure_12", "figure_12"), ("appendix_c", "appendix_c"),
    ],
)  # fmt: skip
def test_numbers_may_be_written_short(papers: Path, written: str, file: str) -> None:
    arguments = [f"table=skip_tuning/{written}", "scale=desk", "+note=table=2"]
    assert reproduce.normalised(arguments) == [f"table=skip_tuning/{file}", *arguments[1:]]


def test_several_tables_may_be_named(papers: Path) -> None:
    arguments = ["-m", "table=skip_tuning/2,skip_tuning/figure_4,skip_tuning/appendix_c"]
    named = "table=skip_tuning/02,skip_tuning/figure_04,skip_tuning/appendix_c"
    assert reproduce.normalised(arguments) == ["-m", named]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "skip_tuning/figure_5",
            "figure_5 of skip_tuning; tables of this paper: 2, 11, appendix_c, figure_04, figure_12",
        ),
        ("skip_tuning/4", "there is no table 4 of skip_tuning; tables"),
        ("skip_tuning/appendix_d", "there is no table appendix_d of skip_tuning; tables"),
        ("figure_4", "no table is called 'figure_4': write table=PAPER/NUMBER; papers: skip_tuning"),
        ("skip_tuning/../2", "no table is called"),
    ],
)
def test_a_table_that_is_not_there(papers: Path, written: str, message: str) -> None:
    with pytest.raises(SkiptuneError, match=message):
        reproduce.normalised([f"table={written}"])
