"""scripts/download.py as a user types it, and the configurations of the official files."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from script_commands import ROOT, Server, Shell

sys.path.append(str(ROOT / "tests/checkpoints"))

from file_server import Answer, FileServer  # noqa: E402
from hub_server import Hub  # noqa: E402

from experiments.config_files import choices  # noqa: E402
from scripts.download import catalogue, normalised  # noqa: E402

FILE = "edm-imagenet-64x64-cond-adm.pkl"
CONTENT = b"\x80" + random.Random(1).randbytes(2_000_000)


@pytest.fixture
def web() -> Iterator[FileServer]:
    with FileServer(CONTENT) as web:
        yield web


def test_name_goes_to_the_checkpoints_folder(server: Server, web: FileServer, tmp_path: Path) -> None:
    arguments = ("download.py", "edm_imagenet64", f"mirror={web.url}")
    done = server.run(tmp_path, *arguments)
    assert done.code == 0, done.err
    assert (tmp_path / "checkpoints" / FILE).read_bytes() == CONTENT
    (line,) = done.out.splitlines()
    assert line.startswith(f"edm_imagenet64: checkpoints/{FILE} (2 MB) downloaded; sha256 ")
    assert "recorded now, at first use: the source publishes no checksum" in line
    assert "edm_imagenet64: 2000/2000 kB" in done.err and "kB/s" in done.err
    again = server.run(tmp_path, *arguments)
    assert again.code == 0 and again.err == "" and "was here" in again.out
    assert len(web.requests) == 1


def test_several_names_one_of_which_fails(server: Server, web: FileServer, tmp_path: Path) -> None:
    web.script = [Answer(404)]
    names = ("edm_imagenet64", "edm_afhqv2", "uvit_autoencoder_ema")
    done = server.run(tmp_path, "download.py", *names, f"mirror={web.url}", "checkpoints=here")
    assert done.code == 2
    # The file after the one that fails is fetched, and the one without address is asked of the mirror.
    assert [path for path, _ in web.requests] == [
        f"/{FILE}",
        "/edm-afhqv2-64x64-uncond-vp.pkl",
        "/autoencoder_kl_ema.pth",
    ]
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "edm_imagenet64" in errors[0] and "404" in errors[0]
    assert (tmp_path / "here/edm-afhqv2-64x64-uncond-vp.pkl").read_bytes() == CONTENT
    assert not (tmp_path / "here" / FILE).exists()


def test_what_only_a_person_can_get_does_not_fail_the_others(
    server: Server, web: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FILE).write_bytes(CONTENT)
    done = server.run(tmp_path, "download.py", "uvit_autoencoder_ema", "edm_imagenet64")
    assert done.code == 0, done.err
    _, by_hand, was_here = done.out.splitlines()
    assert "left to you" in by_hand and "https://drive.google.com/drive/folders/" in by_hand
    assert "was here" in was_here
    alone = server.run(tmp_path, "download.py", "uvit_autoencoder_ema")
    assert "autoencoder_kl_ema.pth" in alone.error_line()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["edm_imagnet64"], "no official file is called 'edm_imagnet64', did you mean edm_imagenet64"),
        (["zzz"], "no official file is called 'zzz'"),
        (["edm_imagenet64", "mirror=nowhere"], f"the mirror nowhere has no {FILE}"),
        (["edm_imagenet64", "colour=red"], "colour"),
        (["edm_imagenet64", "checkpoints=file/x", "mirror=."], "cannot write"),
        (["edm_imagenet64", "retries=many"], "retries is 'many'"),
        (["inception_v3", "mirror=."], "instead of 95628359"),
    ],
)
def test_mistakes_are_one_line(server: Server, tmp_path: Path, arguments: list[str], line: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "weights-inception-2015-12-05-6726825d.pth").write_bytes(b"PK")
    done = server.run(tmp_path, "download.py", *arguments)
    assert line in done.error_line()
    assert not list(tmp_path.rglob("*.part"))


def test_list_without_a_name(server: Server, tmp_path: Path) -> None:
    done = server.run(tmp_path, "download.py")
    assert (done.code, done.err) == (0, "")
    *lines, total = done.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(catalogue())
    assert "GB not here yet" in total and not list(tmp_path.iterdir())


def test_killed_download_goes_on(shell: Shell, server: Server, web: FileServer, tmp_path: Path) -> None:
    web.usual = Answer(pause=0.05)
    script = str(ROOT / "scripts/download.py")
    command = ("edm_imagenet64", f"mirror={web.url}")
    process = shell.start(tmp_path, script, *command)
    part = tmp_path / "checkpoints" / f".{FILE}.part"
    end = time.monotonic() + 120
    while not (part.exists() and part.stat().st_size > 200_000) and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = part.stat().st_size
    assert 200_000 < kept < len(CONTENT) and not (part.parent / FILE).exists()
    web.usual = Answer()
    done = server.run(tmp_path, "download.py", *command)
    assert done.code == 0, done.err
    assert web.ranges == [None, f"bytes={kept}-"]
    assert (part.parent / FILE).read_bytes() == CONTENT


def test_folder_of_the_hub(shell: Shell, server: Server, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    files = {
        "model_index.json": b"{}",
        "unet/config.json": b"{}",
        "unet/net.fp16.safetensors": CONTENT,
        "unet/net.safetensors": CONTENT,
        "README.md": b"",
    }
    with Hub(files) as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
        done = Shell({**shell.environment, **settings}).run(tmp_path, "download.py", "sd_turbo")
    assert done.code == 0, done.err
    assert "recorded now, at first use: a branch of the hub can move" in done.out
    folder = tmp_path / "checkpoints/sd-turbo"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"model_index.json", "unet/config.json", "unet/net.fp16.safetensors"}
    assert (folder / "unet/net.fp16.safetensors").read_bytes() == CONTENT
    again = server.run(tmp_path, "download.py", "sd_turbo")  # needs no hub
    assert again.code == 0 and "was here" in again.out


def test_normalised() -> None:
    assert normalised(["edm_ffhq", "edm_ffhq", "edm_afhqv2", "mirror=M"]) == [
        "checkpoint=[edm_ffhq,edm_afhqv2]",
        "mirror=M",
    ]
    assert normalised(["edm_ffhq", "--cfg", "job"]) == ["checkpoint=[edm_ffhq]", "--cfg", "job"]
    assert normalised(["all"]) == [f"checkpoint=[{','.join(sorted(catalogue()))}]"]
    assert normalised([]) == []


def test_every_model_is_got_as_its_configuration_says() -> None:
    """By its own name from the address that is written there, or by the command that is."""
    files = {each.file: each for each in catalogue().values()}
    official = [each for each in choices("model").values() if each["kind"] in ("official", "diffusers")]
    assert official
    for model in official:
        file = files[model["file"]]
        if "://" in model["url"]:
            assert file.name == model["name"] and model["url"] in file.urls
        else:
            assert model["url"].endswith(f"download.py {file.name}")


def test_other_files_of_the_configurations_are_known() -> None:
    known = {each.file: (*each.urls, each.page) for each in catalogue().values()}
    wanted = {}
    for path in [*(ROOT / "configs/model").glob("*.yaml"), *(ROOT / "configs/features").glob("*.yaml")]:
        values = yaml.safe_load(path.read_text())
        for file, url in (("file", "url"), ("autoencoder_file", "autoencoder_url")):
            if "://" in values.get(url, ""):
                wanted[values[file]] = values[url]
    for role in yaml.safe_load((ROOT / "configs/scale/paper.yaml").read_text())["roles"].values():
        if "reference" in role:
            wanted[role["reference"]] = role["reference_url"]
    assert {FILE, "imagenet-64x64.npz", "weights-inception-2015-12-05-6726825d.pth"} <= wanted.keys()
    assert {file: url for file, url in wanted.items() if url not in known.get(file, ())} == {}


def test_configurations_are_told_apart_and_packaged_by_their_name() -> None:
    files = catalogue()
    assert len({official.file for official in files.values()}) == len(files)
    for name, official in files.items():
        first = (ROOT / f"configs/checkpoint/{name}.yaml").read_text().splitlines()[0]
        assert first == f"# @package checkpoint.{name}"
        assert official.automatic or official.page, name
        assert all(url.startswith("https://") for url in official.urls)
        assert official.size or official.about or name == "ldm_vq_f4"
        assert official.licence and official.system and official.role
