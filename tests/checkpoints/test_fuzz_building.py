"""Damaged and hostile files of the official layouts become a network and its report, or one line.

In a process of its own, whose memory is limited and which a file that takes long would end. The changes are
numbered, so a failure can be repeated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Kind and layout of the files, then their number or which share (one in N) of all there are.
JOBS = {
    "damaged": ["EDMPrecond:60", "EDM2Precond:20", "consistency:8", "DDIM:20", "DDIM, legacy:20", "U-ViT:60",
                "latent diffusion:20"],
    "misdescribed": ["EDMPrecond:11", "iDDPMPrecond:31", "EDM2Precond:11", "latent diffusion:41"],
    "misshapen": ["consistency:29", "DDIM:10", "U-ViT:4", "latent diffusion:16"],
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")
@pytest.mark.parametrize("kind", JOBS)
def test_a_network_or_one_line(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("building_probe.py")), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *(f"{kind}:{job}" for job in JOBS[kind])], capture_output=True, text=True, env=environment
    )
    rows = [line.partition("} {") for line in done.stdout.splitlines()]
    assert done.returncode == 0, (rows[-1:], done.stderr[-2000:])
    loaded = 0
    for head, _, tail in rows:
        found = json.loads("{" + tail)
        line = found["line"]
        assert found["left"] == [], (head, found)
        assert line.isprintable() and len(line) < 500 and len(line.splitlines()) <= 1, (head, line)
        assert not line or line.startswith(str(tmp_path / "network.ckpt")), (head, line)
        loaded += not line
    assert len(rows) > 60
    if kind == "damaged":  # neither everything breaks nor nothing
        assert 0 < loaded < len(rows)
    if kind == "misdescribed":  # no such network has the parameters of the file
        assert loaded == 0
