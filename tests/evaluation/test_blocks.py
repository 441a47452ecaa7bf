from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from feature_arrays import activations, team_main

from skiptune.errors import SkiptuneError
from skiptune.evaluation.blocks import Pairs, blocks, check_features, mean, upper_pairs

HERE = Path(__file__).resolve().parent


def test_blocks_cover_every_row_once() -> None:
    rows = blocks(10, 4)
    assert [list(range(10))[b] for b in rows] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    covered = torch.zeros(10, 10)
    for a, b in upper_pairs(rows):
        covered[a, b] += 1
        if a != b:
            covered[b, a] += 1
    assert (covered == 1).all()
    with pytest.raises(SkiptuneError, match="block is 0"):
        blocks(10, 0)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_pairs_are_the_differences_whatever_the_offset(offset: float) -> None:
    x, y = activations(20, 6, 1, offset), activations(30, 6, 2, offset)
    pairs = Pairs(x, y, mean(x))
    difference = x[:, None] - y
    torch.testing.assert_close(pairs.squared, difference.square().sum(2), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(pairs.manhattan, difference.abs().sum(2), rtol=1e-12, atol=0)
    torch.testing.assert_close(pairs.products, (x[:, None] * y).sum(2), rtol=1e-12, atol=1e-13)
    assert (Pairs(x, x, mean(x), same=True).squared.diagonal() == 0).all()


def test_unusable_features_are_refused_in_one_line() -> None:
    good = torch.zeros(4, 3)
    for bad, message in (
        (torch.tensor([[0.0, float("nan"), 0.0]]), "NaN or infinity"),
        (torch.tensor([[0.0, float("inf"), -float("inf")]]), "NaN or infinity"),
        (torch.zeros(4, 2), "3 and 2 features: use one extractor"),
        (torch.zeros(3), r"shape \[N, d\]"),
        (torch.zeros(4, 3).long(), "int64"),
        (torch.zeros(4, 0), "d = 0"),
    ):
        with pytest.raises(SkiptuneError, match=message) as error:
            check_features(good, bad)
        assert "\n" not in str(error.value)
    with pytest.raises(SkiptuneError, match="at least 5 images, got 4"):
        check_features(good, least=5)
    check_features(torch.full((2, 3), 3e38))  # finite, though its sum is not


def test_two_processes_find_the_bits_of_one(tmp_path: Path) -> None:
    team_main(str(tmp_path / "one"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = [str(HERE / "feature_arrays.py"), str(tmp_path / "two")]
    subprocess.run(command + script, check=True, env=environment, timeout=300, capture_output=True)
    one, *two = (json.loads((tmp_path / name).read_text()) for name in ("one.0", "two.0", "two.1"))
    assert [one.pop("size"), *(part.pop("size") for part in two)] == [1, 2, 2]
    assert two == [one, one]
