"""What a user can get wrong on the command line: one line that says so, exit code 2, nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from script_commands import ROOT, TINY, Server

from skiptune.checkpoints.desk import DESK_FOLDER

MEASURE = {
    "rho zero": (["intervention.rho_bottom=0"], "rho_bottom is 0"),
    "rho above 1": (["intervention.rho_bottom=1.2"], "rho_bottom is 1.2"),
    "rho no number": (["intervention.rho_bottom=high"], "rho_bottom"),
    "no steps": (["sampler.steps=0"], "step"),
    "half a step": (["sampler.steps=2.5"], "sampler.steps is 2.5, it must be a whole number"),
    "noise level no number": (["sampler.sigma_max=big"], "sampler.sigma_max is 'big', it must be a number"),
    "unknown metric": (["metrics=[fid,beauty]"], "unknown metric 'beauty'"),
    "unknown metric alone": (["metrics=beauty"], "unknown metric 'beauty'"),
    "no metric": (["metrics=[]"], "no metrics"),
    "new sampler setting": (["+sampler.speed=1"], "euler has no setting speed"),
    "unknown sampler setting": (
        ["sampler.speed=1"],
        "sigma_max, rho; one that the file leaves out is given as +sampler.speed=1\n",
    ),
    "misspelt sampler setting": (["sampler.spteps=1"], "'sampler.spteps', did you mean sampler.steps?\n"),
    "misspelt group": (["smapler=heun"], "no setting 'smapler', did you mean sampler?\n"),
    "key of another command": (["dry_run=true"], "no setting 'dry_run'; settings: model, sampler, "),
    "appended key of another command": (
        ["+dry_run=true"],
        "no setting 'dry_run'; settings: model, sampler, ",
    ),
    "group of another command": (["probe=text"], "there is no probe to choose in this command\n"),
    "checkpoints no folder": (["checkpoints=null"], "checkpoints is None: use a path"),
    "unknown sampler": (["sampler=foo"], "heun"),
    "unknown model": (["model=foo"], "edm_glyphs"),
    "no override": (["steps"], "steps"),
    "blocks of parts of chunks": (["seeds.size=300"], "multiples of 250"),
    "seeds inside a chunk": (["seeds.first=100"], "multiples of 250"),
    "no blocks": (["seeds.count=0"], "0 seed blocks"),
    "blocks no number": (["seeds.count=many"], "count of the seed blocks is 'many'"),
    "seeds no blocks": (["seeds=5"], "seed blocks are {first, count, size}, not 5"),
    "other keys of seeds": (["+seeds.last=5"], "no setting 'seeds.last'; settings: first, count, size\n"),
    "appended key of the tracker": (["+tracker.foo=1"], "no setting 'tracker.foo'; settings: name, mode, "),
    "no seeds": (["~seeds"], "there is no seeds, which is needed: leave ~seeds or seeds=null out\n"),
    "metrics no names": (["metrics=5"], "unknown metric '5'"),
    "group no name": (["sampler=3"], "must be a string"),
    "no workers": (["workers=0"], "0 workers"),
    "workers no number": (["workers=all"], "workers is 'all'"),
    "unknown device": (["device=tpu"], "unknown device 'tpu'"),
    "unknown noise device": (["noise_device=tpu"], "unknown noise_device 'tpu'"),
    "no micro-batch": (["micro_batch=0"], "micro_batch is 0"),
    "one reference image": (["reference_images=1"], "reference_images is 1"),
    "unknown tracker": (["tracker.name=foo"], "unknown tracker 'foo'"),
    "model not downloaded": (["model=edm_imagenet64"], "get it from https://"),
    "text to image, official": (
        ["model=sd_turbo"],
        "sd_turbo has no data set of its own: of a model of prompts make",
    ),
    "text to image, desk": (
        ["model=sd_turbo_glyphs"],
        "scripts/sample.py and measure the folder with scripts/evaluate",
    ),
    "no such data": (["model.dataset=unknown"], "ffhq; or give a reference=FILE"),
    "data of a folder": (["model.dataset=folder"], "load_dataset('folder', root); or give a reference=FILE"),
    "no reference file": (["reference=none.npz"], "reference file none.npz is missing; give a file, a name"),
    "reference not downloaded": (["reference=fid_imagenet64"], "python scripts/download.py fid_imagenet64"),
    "reference no reference": (["reference=edm_imagenet64"], "is no reference, it is a"),
    "features of the paper": (["features=inception_v3"], "no extractor 'inception_v3'"),
    "features of other images": (
        ["model=edm_digits_uncond"],
        "edm_digits_uncond makes images [1, 8, 8], features glyphs_cnn are of images [3, 16, 16]",
    ),
    "launcher without a sweep": (
        ["launcher=slurm", "hydra.launcher.partition=gpu"],
        "launcher=slurm starts the jobs of a sweep: add -m",
    ),
    "unwritable store": (["outputs=file/store"], "cannot write"),
    "unwritable store of a sweep": (["outputs=file/store", "sampler.steps=1,2", "-m"], "file/store"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a regular file, below which nothing can be written."""
    (tmp_path / "file").write_text("")
    return tmp_path


def assert_untouched(folder: Path) -> None:
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["file"]


@pytest.mark.parametrize("case", MEASURE)
def test_measure(server: Server, folder: Path, case: str) -> None:
    arguments, wanted = MEASURE[case]
    done = server.run(folder, "measure.py", *TINY, *arguments)
    assert wanted in done.error_line()
    assert_untouched(folder)


TABLES = ROOT / "configs/table"
PAPERS = ", ".join(sorted(path.name for path in TABLES.iterdir()))
KNOWN = ", ".join(path.stem.lstrip("0") for path in sorted((TABLES / "skip_tuning").glob("*.yaml")))
REPRODUCE = {
    "unknown table": (
        ["table=skip_tuning/99"],
        f"no table 99 of skip_tuning; tables of this paper: {KNOWN}",
    ),
    "unknown paper": (["table=foo/1"], f"no paper is called 'foo'. Papers: {PAPERS}"),
    "misspelt paper": (
        ["table=skiptuning/2"],
        f"no paper is called 'skiptuning', did you mean skip_tuning? Papers: {PAPERS}",
    ),
    "paper named once": (
        ["table=skip_tuning/2,3"],
        "names a paper once: write -m table=skip_tuning/2,skip_tuning/3\n",
    ),
    "appended key": (["+dry_runn=true", "dry_run=true"], "no setting 'dry_runn', did you mean dry_run?\n"),
    "unknown key, a job a row": (["dry_runn=true", "rows=each"], "'dry_runn', did you mean dry_run?\n"),
    "unknown key of a group": (["scale.foo=1"], "probe, prompts\n"),
    "appended key of a group": (["+scale.foo=1"], "no setting 'scale.foo'; settings: name, roles, seeds, "),
    "appended key inside of it": (
        ["+scale.seeds.report.cuont=3"],
        "did you mean scale.seeds.report.count?\n",
    ),
    "no roles": (["~scale.roles"], "there is no scale.roles, which is needed: leave ~scale.roles out\n"),
    "table without paper": (
        ["table=2"],
        f"no table is called '2': write table=PAPER/NUMBER; papers: {PAPERS}",
    ),
    "one of several tables": (["table=skip_tuning/2,skip_tuning/77", "-m"], "no table 77 of skip_tuning"),
    "unknown scale": (["scale=moon"], "desk paper"),
    "unknown row of a dry run": (
        ["dry_run=true", "rows=[heun_baseline,foo]"],
        "is called 'foo'; there are heun",
    ),
    "no row": (["rows=[]"], "rows names none: give some of heun_baseline, "),
    "each row of two scales": (["-m", "rows=each", "scale=desk,paper"], "several tables, but one value of"),
    "selection on the report seeds": (["scale.seeds.select.first=100000"], "overlap"),
    "nothing to select": (["table.tuning.grids.heun_selected=[1.0]"], "heun_selected has no value but 1"),
    "unwritable results": (["results=file/results"], "cannot write"),
    "unwritable store": (["outputs=file/store"], "cannot write"),
    "tracker online without key": (["tracker.name=wandb", "tracker.mode=online"], "no API key"),
}


@pytest.mark.parametrize("case", REPRODUCE)
def test_reproduce(server: Server, folder: Path, case: str) -> None:
    arguments, wanted = REPRODUCE[case]
    done = server.run(folder, "reproduce.py", "tracker=none", "workers=1", *arguments)
    assert wanted in done.error_line()
    assert not list(folder.rglob("*.safetensors"))


TRAIN = {
    "other weights of that name": (
        [f"export={DESK_FOLDER}", "training.images=256"],
        "edm_glyphs.safetensors would be replaced, and it was trained with other settings (images): give",
    ),
    "replace no flag": (["replace=maybe"], "replace is 'maybe', it must be true or false"),
    "images no number": (["training.images=abc"], "images is 'abc', it must be a whole number"),
    "no such data": (
        ["model.dataset=foo", "export=elsewhere"],
        "unknown data set 'foo'; choose one of glyphs, ",
    ),
    "appended key": (["+training.foo=1"], "there is no setting training.foo; settings: images, "),
    "unknown kind": (["training.kind=poem"], "training.kind is 'poem'; choose one of denoiser, "),
    "names no list": (["training=glyphs_features", "training.names=5"], "training.names is 5"),
}


@pytest.mark.parametrize("case", TRAIN)
def test_train(server: Server, folder: Path, case: str) -> None:
    arguments, wanted = TRAIN[case]
    assert wanted in server.run(folder, "train.py", "tracker=none", *arguments).error_line()
    assert_untouched(folder)


SHORT = ("sampler=euler", "sampler.steps=1", "reference_images=300", "tracker=none", "workers=1")
TUNE = {
    "report on the selection seeds": (["seeds.report.first=1000000"], "overlap"),
    "report of one block": (["seeds.report.count=1"], "seeds.report has 1 block"),
    "seeds of parts of chunks": (["seeds.select.size=300"], "multiples of 250"),
    "seeds no blocks": (["seeds=5"], "seeds are {select, report}, not 5"),
    "report no blocks": (["seeds.report=5"], "seed blocks are {first, count, size}, not 5"),
    "nothing to tune": (
        ["space.rho_bottom=0.5", "space.rho_top=1", "space.time_direction=null"],
        "every setting of the space is fixed",
    ),
    "space no settings": (["space=wide"], "space is 'wide'"),
    "rho zero": (["space.rho_bottom.low=0"], "rho_bottom is 0.0, it must lie in (0, 1]"),
    "rho above 1": (["space.rho_top.high=1.2"], "rho_top is 1.1"),
    "no step": (["space.rho_bottom.step=0"], "step must be positive"),
    "unknown direction": (["space.time_direction=[sideways]"], "unknown time direction 'sideways'"),
    "unknown setting": (["+space.depth=[0.5,0.6]"], "space.depth cannot be tuned"),
    "few trials": (["trials=2"], "trials is 2"),
    "trials no number": (["trials=many"], "trials is 'many'"),
    "optimiser seed no number": (["optimiser_seed=x"], "optimiser_seed is 'x'"),
    "unknown metric": (["metric=beauty"], "unknown metric 'beauty'"),
    "other intervention": (["intervention=freeu"], "the intervention is freeu"),
    "no reference file": (["reference=none.npz"], "reference file none.npz is missing"),
    "reference not downloaded": (["reference=fid_imagenet64"], "python scripts/download.py fid_imagenet64"),
    "model not downloaded": (["model=edm_imagenet64"], "get it from https://"),
    "text to image": (["model=sdxl_glyphs"], "sdxl_glyphs makes images of prompts"),
    "one level for a schedule": (["trials=3"], "at least two positive noise levels"),
    "unwritable store": (
        ["outputs=file/store", "results=results", "space.time_direction=null"],
        "cannot write",
    ),
    "unwritable results": (["results=file/results"], "cannot write"),
}


@pytest.mark.parametrize("case", TUNE)
def test_tune(server: Server, folder: Path, case: str) -> None:
    arguments, wanted = TUNE[case]
    done = server.run(folder, "tune.py", *SHORT, *arguments)
    assert wanted in done.error_line()
    assert not list(folder.rglob("*.safetensors")) and not list(folder.rglob("*.json"))


def test_weights_with_another_hash(server: Server, folder: Path) -> None:
    shutil.copy(DESK_FOLDER / "edm_glyphs.safetensors", folder / "weights.safetensors")
    model = (
        "model.kind=official",
        "+model.file=weights.safetensors",
        "+model.url=https://example.org/weights",
    )
    done = server.run(folder, "measure.py", *TINY, *model, "checkpoints=.", f"+model.sha256={'0' * 64}")
    assert "has sha256" in done.error_line() and "get it again" in done.err


def test_benchmark(server: Server, folder: Path) -> None:
    for arguments, wanted in (
        (["speed"], "unknown benchmark 'speed'; choose one of loading, metrics, "),
        (["sampling", "images=few"], "images is 'few'"),
        (["sampling", "colour=red"], "'colour=red' is no setting: write key=value; keys: edm_repo, "),
        (["sampling", "full_size=1"], "full_size is 1, it must be true or false"),
        (["loading", "images=500"], "keys: systems, results"),
        (["loading", "systems=edm_runes"], "systems is 'edm_runes', it must be a list: systems=[...]"),
        (["loading", "systems=[edm_runes]"], "unknown system 'edm_runes'; choose all or a list"),
        (["training", "compile=[maybe]"], "compile is 'maybe', it must be true or false"),
        (["sampling", "edm_repo=file"], "no checkout of NVlabs/edm"),
        (["tuning", "select=[few]"], "select is 'few', it must be a whole number from 0"),
        (["tuning", "optimisers=0"], "optimisers is 0, it must be a whole number from 1"),
    ):
        assert wanted in server.run(folder, "benchmark.py", *arguments).error_line()
    assert_untouched(folder)
