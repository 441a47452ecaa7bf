"""Batches of a training, made when they are needed or ahead."""

from __future__ import annotations

import multiprocessing
from contextlib import closing

import pytest
import torch

from skiptune.data import load_dataset
from skiptune.errors import SkiptuneError
from skiptune.training.batches import AHEAD, Batches


def test_batches_made_ahead_have_equal_bits_and_order() -> None:
    before = set(multiprocessing.active_children())
    batches = Batches("digits", "train", range(3, 150, 12), 4, flip=True)
    dataset = load_dataset("digits", flip=True)
    ahead = list(batches.made(loaders=2))
    assert len(ahead) == len(batches.starts) == 13 > 2 * AHEAD
    for start, here, there in zip(batches.starts, batches.made(), ahead, strict=True):
        expected = dataset.batch(range(start, start + 4), "train")
        for a, b, c in zip(expected, here, there, strict=True):
            assert torch.equal(a, b) and torch.equal(a, c)
    assert set(multiprocessing.active_children()) <= before


def test_an_error_of_the_data_is_that_of_the_data() -> None:
    found = []
    for loaders in (0, 1):
        with pytest.raises(SkiptuneError) as caught:
            next(Batches("digits", "tests", range(0, 8, 4), 4).made(loaders))
        found.append(str(caught.value))
    assert found[0] == found[1] and "tests" in found[0] and "\n" not in found[0]


def test_a_killed_process_is_named() -> None:
    before = set(multiprocessing.active_children())
    with closing(Batches("digits", "train", range(0, 4000, 4), 4).made(loaders=1)) as batches:
        next(batches)
        (process,) = set(multiprocessing.active_children()) - before
        process.kill()
        with pytest.raises(SkiptuneError, match="makes images ended .*: the same command goes on"):
            for _ in range(2 * AHEAD):
                next(batches)
