from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runtime_tasks import SETTINGS, big_chunk, chunk, error_of, write_again_and_again, write_missing

from skiptune.runtime.store import Run, RunStore, run_id


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return RunStore(tmp_path).open(SETTINGS)


def test_id_is_stable():
    # A changed value here orphans every stored run.
    settings = {"rho": 0.8, "seeds": [0, 4000], "model": {"name": "edm", "ema": None}}
    assert run_id(settings) == "365f867aece4e1b60c7c"


def test_id_ignores_order_and_sees_every_value():
    settings = {"a": 1, "b": {"c": 2.0, "d": "x"}}
    assert run_id(settings) == run_id({"b": {"d": "x", "c": 2.0}, "a": 1})
    variants = [
        {"a": 2, "b": {"c": 2.0, "d": "x"}},
        {"a": 1.0, "b": {"c": 2.0, "d": "x"}},
        {"a": True, "b": {"c": 2.0, "d": "x"}},
        {"a": 1, "b": {"c": 2.0000000000000004, "d": "x"}},
        {"a": 1, "b": {"c": 2.0, "d": "x", "e": None}},
        {"a": 1, "b": {"c": 2.0}, "d": "x"},
    ]
    assert len({run_id(s) for s in [settings, *variants]}) == 7


def test_chunk_round_trip_keeps_bits(run):
    tensors = {
        "images": torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4),
        "features": torch.randn(2, 5)[:, ::2],
        "half": torch.randn(3, dtype=torch.bfloat16),
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "labels": torch.tensor([1, -2]),
    }
    run.write_chunk(3, tensors)
    back = run.read_chunk(3)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    assert run.chunk_path(3) == run.folder / "chunks" / "00003.safetensors"
    assert run.has_chunk(3) and not run.has_chunk(0)
    assert run.missing(5) == [0, 1, 2, 4]
    assert run.missing([4, 3, 0]) == [4, 0]


def test_views_of_one_storage_can_be_written(run):
    images = torch.randn(4, 3)
    run.write_chunk(0, {"first": images[:2], "last": images[2:], "all": images})
    assert torch.equal(run.read_chunk(0)["last"], images[2:])


def test_open_and_questions_write_nothing(tmp_path):
    run = RunStore(tmp_path).open(SETTINGS)
    assert run.missing(2) == [0, 1] and run.record() is None and not run.has_chunk(0)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_kept_and_later_changes_do_not_enter(tmp_path):
    settings = {"sampler": {"steps": 9}}
    run = RunStore(tmp_path).open(settings)
    settings["sampler"]["steps"] = 18
    run.write_record({"value": 1.0})
    assert json.loads((run.folder / "settings.json").read_text()) == {"sampler": {"steps": 9}}
    assert RunStore(tmp_path).ids() == [run.id]
    assert RunStore(tmp_path).load(run.id).record() == {"value": 1.0}


def test_foreign_settings_are_refused(tmp_path, run):
    run.write_record({"value": 1.0})
    path = run.folder / "settings.json"
    path.write_text(path.read_text().replace("0.8", "0.9"))
    store = RunStore(tmp_path)
    for action in (lambda: store.open(SETTINGS), lambda: store.load(run.id)):
        assert str(path) in error_of(action)
    assert "compute it first" in error_of(lambda: store.load("0" * 20))


def test_record_must_be_plain_and_whole(run):
    assert "record.fid" in error_of(lambda: run.write_record({"fid": float("nan")}))
    assert run.record() is None
    run.write_record({"fid": 2.5})
    (run.folder / "record.json").write_text('{"fid": 2.')
    assert "record.json" in error_of(run.record)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_chunk_with_non_finite_values_is_refused(run, bad):
    tensors = {"labels": torch.tensor([1]), "images": torch.tensor([bad, 1])}
    message = error_of(lambda: run.write_chunk(0, tensors))
    assert "'images'" in message and "1 NaN or inf" in message
    assert not run.has_chunk(0)


def test_truncated_chunk_is_named_at_once(run):
    for i in range(2):
        run.write_chunk(i, chunk(i))
    path = run.chunk_path(1)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        for action in (lambda: run.missing(2), lambda: run.read_chunk(1)):
            message = error_of(action)
            assert str(path) in message and "delete it and run the same command again" in message
    path.unlink()
    assert run.missing(2) == [1]
    run.write_chunk(1, chunk(1))
    assert path.read_bytes() == whole


def test_one_flipped_bit_anywhere_is_found_when_read(run):
    run.write_chunk(0, chunk(0))
    path = run.chunk_path(0)
    whole = path.read_bytes()
    for position in (0, 9, 40, 90, 150, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert str(path) in error_of(lambda: run.read_chunk(0)), position
    path.write_bytes(whole)
    run.read_chunk(0)


def test_chunk_of_another_place_or_run_is_refused(run):
    run.write_chunk(0, chunk(0))
    shutil.copy(run.chunk_path(0), run.chunk_path(1))
    assert "00001.safetensors" in error_of(lambda: run.read_chunk(1))
    assert "damaged" in error_of(lambda: replace(run, id="0" * 20).read_chunk(0))


def test_missing_chunk_is_named(run):
    assert "00007.safetensors" in error_of(lambda: run.read_chunk(7))


def test_unwritable_store_is_found_up_front(tmp_path):
    (tmp_path / "file").touch()
    store = RunStore(tmp_path / "file" / "store")  # fails for root too
    assert "cannot write" in error_of(store.check_writable)
    assert "cannot write" in error_of(lambda: store.open(SETTINGS).write_chunk(0, chunk(0)))
    RunStore(tmp_path / "good").check_writable()
    assert list((tmp_path / "good" / "runs").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_folder_without_permission_is_found_up_front(tmp_path):
    tmp_path.chmod(0o500)
    assert "Permission denied" in error_of(RunStore(tmp_path).check_writable)


def test_stale_temporaries_go_and_never_count(run):
    run.write_chunk(0, chunk(0))
    old, young = (run.folder / "chunks" / f".00001.safetensors.{name}.tmp" for name in ("1-a", "2-b"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert run.missing(2) == [1]
    run.write_chunk(1, chunk(1))
    assert not old.exists() and young.exists()


def test_killed_writers_leave_whole_chunks_and_the_rest_is_computed(tmp_path, processes):
    n_chunks, kills = 12, 0
    run = RunStore(tmp_path / "killed").open(SETTINGS)
    while missing := run.missing(n_chunks):
        writer = processes.Process(target=write_missing, args=(run, n_chunks))
        writer.start()
        # From the first sign of the next chunk on, later and later: in the middle of the write, or after it.
        start = time.monotonic()
        while not list(run.folder.glob(f"chunks/*{missing[0]:05d}*")) and time.monotonic() - start < 30:
            time.sleep(0.0005)
        time.sleep(0.003 * (kills % 5))
        writer.kill()
        writer.join()
        kills += writer.exitcode == -9
        for i in range(n_chunks):
            if run.has_chunk(i):
                assert torch.equal(run.read_chunk(i)["x"], big_chunk(i)["x"])
        if kills == 8:
            write_missing(run, n_chunks)
    assert kills >= 3
    whole = RunStore(tmp_path / "whole").open(SETTINGS)
    write_missing(whole, n_chunks)
    for i in range(n_chunks):
        assert run.chunk_path(i).read_bytes() == whole.chunk_path(i).read_bytes()


def test_readers_see_whole_chunks_while_two_processes_write_the_same(run, processes):
    writers = [processes.Process(target=write_again_and_again, args=(run, 5)) for _ in range(2)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        if run.has_chunk(0):
            assert torch.equal(run.read_chunk(0)["x"], big_chunk(0)["x"])
            reads += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert reads > 1
    assert {path.name for path in (run.folder / "chunks").iterdir()} == {"00000.safetensors"}
