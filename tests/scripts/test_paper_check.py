"""scripts/paper_check.py: one list of what the tables need at scale=paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from script_commands import ROOT, Server

S2DM = {
    f"{model}_{data}.safetensors"
    for model in ("ddim1", "ddim2", "s2dm_skip2", "s2dm_skip10", "s2dm_skip50")
    for data in ("cifar10", "celeba")
}
MADE_HERE = S2DM | {
    "diff_instruct_imagenet64.safetensors",
    *(f"edm_imagenet64_hybrid_{images}m.safetensors" for images in (4, 10, 30, 60)),
    *(f"rho_{form}_imagenet64.safetensors" for form in ("free", "sigmoid")),
}
CHECKPOINT, STATISTICS = "edm-imagenet-64x64-cond-adm.pkl", "imagenet-64x64.npz"


def missing(out: str) -> list[str]:
    return [line.strip() for line in out.split("Missing on this machine\n")[1].splitlines()]


def test_list_of_everything(server: Server, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / STATISTICS).write_bytes(b"")
    done = server.run(tmp_path, "paper_check.py", "checkpoints=here")
    assert (done.code, done.err) == (0, "")
    tables = {line[:40].strip(): line[40:].strip() for line in done.out.splitlines() if line.startswith("  ")}
    assert tables["skip_tuning/02"].split()[:2] == ["200000", "images"]
    assert "files missing" in tables["skip_tuning/02"]
    for last in ("skip_tuning/15", "s2dm/05", "importance_probe/06"):
        assert last in tables
    assert "GPU-hours at 60 TFLOP/s sustained (from operation counts, not measured" in done.out
    for wanted in (
        f"{CHECKPOINT}: missing, about 1.18 GB, CC BY-NC-SA 4.0; python scripts/download.py edm_imagenet64 "
        f"(https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/{CHECKPOINT})",
        f"{STATISTICS}: here, about 34 MB",
        "to download: about ",
    ):
        assert wanted in done.out
    made = re.search(r"to be made here, published nowhere: (.*)\n", done.out)
    assert made is not None and set(made[1].split(", ")) == MADE_HERE
    assert f"{min(MADE_HERE - S2DM)}: missing, made here; its authors published no weights" in done.out
    (total,) = re.findall(
        r"to download: about (.*) GB, (\d+) files(?:, and (\d+) of unknown size)?\n", done.out
    )
    stated = re.findall(r": missing, (?:about )?([\d.]+) ([GMk])B, .*\(https://.*\)\n", done.out)
    size = sum(float(value) * {"G": 1, "M": 1e-3, "k": 1e-6}[unit] for value, unit in stated)
    assert (len(stated), size) == (
        int(total[1]) - int(total[2] or 0),
        pytest.approx(float(total[0]), rel=0.01),
    )
    lack = missing(done.out)
    assert f"file {CHECKPOINT}" in lack and f"file {STATISTICS}" not in lack
    assert [path.name for path in tmp_path.rglob("*")] == ["here", STATISTICS]


def test_broken_configuration_fails_after_the_list(server: Server, tmp_path: Path) -> None:
    done = server.run(tmp_path, "paper_check.py", "~scale.roles.uvit", "page=page.md")
    assert done.code == 2
    (line,) = [line for line in done.out.splitlines() if line.startswith("  skip_tuning/07")]
    assert "broken config: no role at scale paper is called 'uvit'" in line
    assert done.err.startswith("error: broken configuration: ") and done.err.count("\n") == 1
    assert "skip_tuning/07" in done.err and "skip_tuning/02" not in done.err
    assert "a sound configuration of skip_tuning/07" in missing(done.out)
    assert not list(tmp_path.iterdir())


def test_page_of_commands_and_costs_is_that_of_the_configuration(server: Server, tmp_path: Path) -> None:
    done = server.run(tmp_path, "paper_check.py", "page=page.md", f"results={ROOT}/results")
    assert (done.code, done.err) == (0, "")
    assert (tmp_path / "page.md").read_text() == (ROOT / "results/paper/README.md").read_text()


def test_unknown_setting_is_one_line(server: Server, tmp_path: Path) -> None:
    assert "speed" in server.run(tmp_path, "paper_check.py", "speed=1").error_line()
