"""Two workers: gradients are averaged, and kills change neither the result nor leave a process behind."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_training import DENOISER, export, stopped, two_workers

from skiptune.data import load_dataset
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError
from skiptune.runtime.stopping import Stopped, stop_on_signals
from skiptune.training.checkpoint import read_log, saved_steps
from skiptune.training.loop import hash_seed, train
from skiptune.training.losses.edm import EDMLoss
from skiptune.training.parallel import other_workers

HERE = Path(__file__).resolve().parent
PATIENCE = 300  # seconds for a start on a busy machine


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run with its loss log, exported weights and the checkpoint after one step."""
    folder = tmp_path_factory.mktemp("uninterrupted")

    def on_step(images: int, loss: float) -> None:
        if images == 16:
            shutil.copy(folder / "checkpoint.safetensors", folder / "one_step.safetensors")

    export(train(two_workers(checkpoint_every=1), folder, on_step), folder)
    return folder


def test_gradients_and_loss_are_means_over_workers(uninterrupted: Path) -> None:
    images, _ = load_dataset("digits").batch(range(8), "train")
    losses, gradients = [], []
    for rank in range(2):
        torch.manual_seed(two_workers().seed)  # weights and dropout
        denoiser = build_denoiser(DENOISER).to(memory_format=torch.channels_last).train()
        clean = (images[4 * rank : 4 * rank + 4] / 127.5 - 1).to(memory_format=torch.channels_last)
        loss = EDMLoss()(denoiser, clean, None, torch.Generator().manual_seed(hash_seed(0, 0, rank)))
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in denoiser.named_parameters()})
    assert abs(losses[0] - losses[1]) > 0.01  # the workers had work of their own
    first = read_log(uninterrupted / "loss.jsonl")[0]
    assert first == {"images": 8, "loss": pytest.approx(sum(losses) / 2, rel=1e-5)}
    saved = load_file(uninterrupted / "one_step.safetensors")
    for name, one in gradients[0].items():
        found = saved[f"exp_avg/{name}"] / (1 - 0.9)  # Adam's first moment after its first step
        torch.testing.assert_close(found, (one + gradients[1][name]) / 2, rtol=1e-3, atol=1e-6)


def start(folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(HERE / "small_training.py"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def training_workers() -> list[BaseProcess]:
    return [each for each in multiprocessing.active_children() if each.name.startswith("training worker")]


def kill(process: subprocess.Popen[str], patience: float = 20) -> str:
    """SIGKILL the main process; its pipes close only when all processes that it started have ended too."""
    process.kill()
    _, errors = process.communicate(timeout=patience)
    assert process.returncode == -9
    return errors


def test_killed_run_goes_on_to_the_same_bits(tmp_path: Path, uninterrupted: Path) -> None:
    checkpoint, log = tmp_path / "checkpoint.safetensors", tmp_path / "loss.jsonl"

    # Kill at the start: the second worker is importing, and ends when it has done so.
    process = start(tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "starting\n"
    time.sleep(0.5)
    kill(process, PATIENCE)
    assert not checkpoint.exists()

    # Kill between two checkpoints, anywhere in a step.
    process = start(tmp_path)
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    while int(process.stdout.readline()) < 80:
        process.stdin.write("\n")
        process.stdin.flush()
    process.stdin.write("\n")  # it works on, up to the next row at most
    process.stdin.flush()
    time.sleep(0.02)
    assert "Traceback" not in kill(process)
    assert saved_steps(checkpoint) == 8
    assert read_log(log)[-1]["images"] >= 80  # rows after the checkpoint, to be computed again

    # Kill the second worker.
    def lose(images: int, loss: float) -> None:
        if images == 136:
            (worker,) = training_workers()
            worker.kill()

    message = "a training worker ended .*: run the same command again"
    with pytest.raises(SkiptuneError, match=message) as caught:
        train(two_workers(), tmp_path, lose)
    assert "\n" not in str(caught.value) and saved_steps(checkpoint) == 16

    rows: list[int] = []
    export(train(two_workers(), tmp_path, lambda images, loss: rows.append(images), loaders=1), tmp_path)
    assert rows == list(range(136, 193, 8))  # it went on, it did not begin again
    for name in ("loss.jsonl", "small.safetensors", "small.json"):  # the last one holds the sha256
        assert (tmp_path / name).read_bytes() == (uninterrupted / name).read_bytes()


def test_run_that_is_told_to_stop_keeps_its_last_step(tmp_path: Path) -> None:
    """By a signal to all its processes, as a terminal or a scheduler sends it, in the middle of a log row."""
    (tmp_path / "whole").mkdir()
    export(train(stopped(), tmp_path / "whole"), tmp_path / "whole")
    folder = tmp_path / "parts"
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    signals = (
        ("SIGUSR2", -1, 0, "Stopped SIGUSR2"),  # the second worker is importing
        ("SIGTERM", -2, 1, "Stopped SIGTERM"),  # the process that makes images is
        ("SIGINT", 80, 11, "KeyboardInterrupt"),
    )
    for name, after, steps, said in signals:
        program = [sys.executable, str(HERE / "small_training.py"), str(folder), name, str(after)]
        done = subprocess.run(
            program, capture_output=True, text=True, env=environment, timeout=PATIENCE, start_new_session=True
        )
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said, "")
        assert saved_steps(folder / "checkpoint.safetensors") == steps  # the one at hand is the last
    export(train(stopped(), folder), folder)
    for name in ("loss.jsonl", "small.safetensors", "small.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


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
    assert not training_workers()


@dataclass
class StopsItsStarter:
    def __reduce__(self) -> tuple[object, tuple[()]]:
        os.kill(os.getpid(), signal.SIGTERM)
        return str, ()


def test_stop_while_a_worker_is_started_ends_it() -> None:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    stop_on_signals()
    try:
        with pytest.raises(Stopped), other_workers(2, print, StopsItsStarter()):
            pytest.fail("the block was entered")
        assert not training_workers()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
