"""Two workers: gradients are averaged, and kills change neither the result nor leave a process behind."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_training import export, small

from skiptune.checkpoints.desk import build_denoiser
from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.training.checkpoint import read_log, saved_steps
from skiptune.training.loop import hash_seed, train
from skiptune.training.losses import EDMLoss
from skiptune.training.parallel import other_workers

HERE = Path(__file__).resolve().parent
PATIENCE = 300  # seconds for a start on a busy machine


def test_gradients_and_loss_are_means_over_workers(tmp_path: Path) -> None:
    settings = small(dropout=0.0, workers=2, images=8, seed=3)
    state = train(settings, tmp_path)
    torch.manual_seed(3)
    denoiser = build_denoiser(settings.denoiser)
    images, _ = load_dataset("digits").batch(range(8), "train")
    losses = []
    for rank in range(2):
        clean = images[4 * rank : 4 * rank + 4] / 127.5 - 1
        generator = torch.Generator().manual_seed(hash_seed(3, 0, rank))
        losses.append(EDMLoss()(denoiser, clean, None, generator))
    loss = torch.stack(losses).mean()
    loss.backward()
    assert abs(losses[0] - losses[1]) > 0.01 * loss  # the workers had work of their own
    assert state.curve == [{"images": 8, "loss": pytest.approx(loss.item(), rel=1e-5)}]
    saved = load_file(tmp_path / "checkpoint.safetensors")
    for name, parameter in denoiser.named_parameters():
        gradient = saved[f"exp_avg/{name}"] / (1 - 0.9)  # of Adam's first step
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run with its loss log and exported weights."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    export(train(small(workers=2), folder), folder)
    return folder


def start(folder: Path, wait: bool) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(HERE / "small_training.py"), str(folder)],
        stdin=subprocess.PIPE if wait else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def kill(process: subprocess.Popen[str], patience: float = 20) -> str:
    """SIGKILL the main process; its pipes close only when all processes that it started have ended too."""
    process.kill()
    _, errors = process.communicate(timeout=patience)
    assert process.returncode == -9
    return errors


def test_killed_run_goes_on_to_the_same_bits(tmp_path: Path, uninterrupted: Path) -> None:
    checkpoint, log = tmp_path / "checkpoint.safetensors", tmp_path / "loss.jsonl"
    process = start(tmp_path, wait=True)
    assert process.stdout is not None and process.stdout.readline() == "starting\n"
    time.sleep(0.5)  # the second worker is importing, and ends when it has done so
    kill(process, PATIENCE)
    assert not checkpoint.exists()

    for moment, pause, steps in ((80, 0.0, 8), (128, 0.02, 12)):
        process = start(tmp_path, wait=True)
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        while int(process.stdout.readline()) < moment:
            process.stdin.write("\n")
            process.stdin.flush()
        process.stdin.write("\n")  # it works on, up to the next row at most
        process.stdin.flush()
        time.sleep(pause)
        assert "Traceback" not in kill(process)
        assert steps <= saved_steps(checkpoint) <= moment // 8
        assert read_log(log)[-1]["images"] >= moment  # rows after the checkpoint, to be computed again

    process = start(tmp_path, wait=False)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert int(output.split()[1]) > 96  # it went on, it did not begin again
    for name in ("loss.jsonl", "small.safetensors", "small.json"):  # the last one holds the sha256
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes()


def test_lost_worker_is_reported_and_the_checkpoint_kept(tmp_path: Path) -> None:
    def lose(images: int, loss: float) -> None:
        if images == 80:
            (worker,) = (process for process in multiprocessing.active_children() if process.daemon)
            worker.kill()

    with pytest.raises(
        SkiptuneError, match="a training worker ended .*: run the same command again"
    ) as caught:
        train(small(workers=2), tmp_path, lose)
    assert "\n" not in str(caught.value) and saved_steps(tmp_path / "checkpoint.safetensors") == 8


@dataclass
class EndsItsReader:
    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (3,)


def test_worker_that_ends_at_its_start_is_not_waited_for() -> None:
    begin = time.monotonic()
    with (
        pytest.raises(SkiptuneError, match="a training worker ended"),
        other_workers(2, print, EndsItsReader()),
    ):
        pytest.fail("the block was entered")
    assert time.monotonic() - begin < PATIENCE
    assert not [process for process in multiprocessing.active_children() if process.daemon]
