"""scripts/sample.py: images as files, equal to those of the tables, whatever interrupts the making."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load
from script_commands import Server, Shell, Sweep, written

from skiptune.data.folder import FolderImages

HEUN = ("sampler=heun", "sampler.steps=5", "intervention.rho_bottom=0.7", "seeds=0-63", "micro_batch=8")


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a call that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    done = server.run(folder, "sample.py", *HEUN, "workers=1")
    assert done.code == 0, done.err
    (report,) = done.records()
    assert report == {"folder": "samples", "overview": "samples_overview.png", "images": 64, "nfe": 9}
    assert "64/64 img" in done.err
    return folder / "samples"


def test_images_are_those_of_the_tables(sweep: Sweep, server: Server, tmp_path: Path) -> None:
    same = ("sampler=euler", "sampler.steps=1", "intervention.rho_bottom=0.8", "micro_batch=125", "workers=1")
    done = server.run(tmp_path, "sample.py", *same, "seeds=0-124", "out=images")
    assert done.code == 0, done.err
    _, first = min(sweep.chunks(1, 0.8).items())
    chunk = load(first)
    images, labels = FolderImages(tmp_path / "images").batch(range(16), "reference")
    assert torch.equal(images, chunk["images"])
    assert torch.equal(labels, chunk["labels"][:16])


def test_a_killed_call_goes_on_in_several_processes(whole: Path, shell: Shell, tmp_path: Path) -> None:
    script = str(Path(__file__).resolve().parents[2] / "scripts/sample.py")
    process = shell.start(tmp_path, script, *HEUN, "workers=2")
    folder = tmp_path / "samples"
    while not list(folder.glob("*.png")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert len(pictures(folder)) < 64
    before = written(folder)
    done = shell.run(tmp_path, "sample.py", *HEUN, processes=2)
    assert done.code == 0, done.err
    assert done.records()[0]["images"] == 64
    assert pictures(folder) == pictures(whole) and len(pictures(whole)) == 64
    after = written(folder)
    assert all(after[path] == before[path] for path in before if path.suffix == ".png")


def test_what_is_there_is_left_alone_and_evaluated(whole: Path, server: Server) -> None:
    lost = whole / "000012.png"
    content, before = lost.read_bytes(), written(whole)
    again = server.run(whole.parent, "sample.py", *HEUN, "workers=1")
    assert again.code == 0 and again.records()[0]["images"] == 64
    assert "img/s" not in again.err  # nothing was left to do
    lost.unlink()
    done = server.run(whole.parent, "sample.py", *HEUN, "workers=1")
    assert done.code == 0, done.err
    assert lost.read_bytes() == content
    kept = [path for path in before if path.suffix == ".png" and path != lost]
    assert all(written(whole)[path] == before[path] for path in kept) and len(kept) == 63
    with Image.open(whole.parent / "samples_overview.png") as overview:
        assert overview.size == (8 * 64, 8 * 64)
    measured = server.run(
        whole.parent, "evaluate.py", "generated=samples", "metrics=[accuracy]", "extractor=glyphs_cnn"
    )
    assert measured.code == 0, measured.err
    assert json.loads(measured.out)["metrics"]["accuracy"] > 0.8  # its classes are in dataset.json


def test_a_sweep_makes_a_folder_each_and_a_class_is_that_of_all(server: Server, tmp_path: Path) -> None:
    short = ("sampler=euler", "sampler.steps=1", "seeds=[3,5]", "class_label=7", "workers=1")
    folders = "out=${intervention.rho_bottom}"
    done = server.run(tmp_path, "sample.py", "-m", *short, "intervention.rho_bottom=0.5,1.0", folders)
    assert done.code == 0, done.err
    assert [report["folder"] for report in done.records()] == ["0.5", "1.0"]
    labels = json.loads((tmp_path / "1.0/dataset.json").read_text())["labels"]
    assert labels == [["000003.png", 7], ["000005.png", 7]]
    assert json.loads((tmp_path / "1.0/sampling.json").read_text())["made_with"]["intervention"] == {
        "name": "none"
    }


def test_prompts(server: Server, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a bold red letter K on white\na thin blue letter A on black\n")
    turbo = ("model=sd_turbo_glyphs", "sampler=ddim", "sampler.steps=1", "intervention=none", "workers=1")
    done = server.run(tmp_path, "sample.py", *turbo, "prompts_file=prompts.txt", "seeds=0-2", "out=prompted")
    assert done.code == 0, done.err
    prompts = json.loads((tmp_path / "prompted/prompts.json").read_text())
    assert [prompts[f"00000{i}.png"].split()[2] for i in range(3)] == ["red", "blue", "red"]
    assert not (tmp_path / "prompted/dataset.json").exists()
    one = server.run(
        tmp_path, "sample.py", *turbo, "prompts=a bold red letter K on white", "seeds=0-2", "out=one"
    )
    assert one.code == 0, one.err
    several, same = (
        FolderImages(tmp_path / name).batch(range(3), "reference")[0] for name in ("prompted", "one")
    )
    assert [torch.equal(a, b) for a, b in zip(several, same, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("seeds=5-2",), "'5-2' is no number or range"),
        (("seeds=-1",), "'-1' is no number or range"),
        (("seeds=[]",), "seeds: give at least one"),
        (("seeds=0-99999999999",), "seeds: more than 10,000,000 images"),
        (("seeds=4294967296",), "from 0 to 4294967295"),
        (("class_label=26",), "class 26 is none of the network's 26"),
        (("class_label=A",), "class_label is 'A'"),
        (("prompts=a letter",), "model edm_glyphs takes no prompts"),
        (("model=sd_turbo_glyphs", "sampler=ddim"), "conditioned on text: give prompts"),
        (("prompts=a letter", "class_label=1"), "not both"),
        (("prompts=a letter", "prompts_file=b"), "not both"),
        (("prompts_file=absent.txt",), "cannot read absent.txt"),
        (("prompts_file=some.txt",), "some.txt: text 2 of 3 is empty"),
        (("guidance=abc",), "guidance is 'abc'"),
        (("guidance=2",), "guidance is that of prompts"),
        (("prompts=a", "guidance=2", "negative_prompt=5"), "negative_prompt is 5"),
        (("prompts=a", "negative_prompt=b"), "negative_prompt says nothing without guidance"),
        (("micro_batch=0",), "micro_batch is 0"),
        (("intervention.rho_bottom=-1",), "rho_bottom"),
        (("model=edm_imagenet64",), "is missing"),
        (("out=/proc/nothing",), "cannot write"),
        (("out=.",), "name a folder of its own"),
        (("out=..",), "name a folder of its own"),
        (("out=null",), "name a folder of its own"),
        (("out=taken",), "taken_overview.png is there already"),
        (("prompts=some.txt",), "names a file: give it as prompts_file=some.txt"),
        (("prompts_file=half.json",), "half.json: text 1 of 1 is empty or no text"),
        (("out=foreign",), "foreign holds numbered PNG files but no sampling.json"),
    ],
)
def test_mistakes_are_one_line(
    server: Server, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "some.txt").write_text("a\n\nb\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "half.json").write_text('["\\ud800"]')
    for place in ("taken_overview.png", "foreign/000000.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / place)
    before = written(tmp_path)
    done = server.run(tmp_path, "sample.py", *arguments, "workers=1")
    assert done.code == 2 and done.out == ""
    assert written(tmp_path) == before  # nothing replaced, no folder locked
    errors = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and message in errors[0], done.err
    assert "Traceback" not in done.err
    if message != "cannot write":  # the others are said before any image is begun
        assert done.err == errors[0] + "\n"


def test_a_folder_of_other_images_is_refused(whole: Path, server: Server) -> None:
    before = written(whole)
    line = server.run(whole.parent, "sample.py", *HEUN, "sampler.steps=6", "workers=1").error_line()
    assert "samples holds images with another sampler; choose another folder, in a sweep one for each" in line
    assert "'out=samples_${intervention.rho_bottom}'" in line
    assert written(whole) == before
