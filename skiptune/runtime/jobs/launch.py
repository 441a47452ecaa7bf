"""The command line of one job: plain Python, or torchrun where a job has several GPUs or machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# The job itself knows where its first node is.
ENDPOINT, IDENTITY = "--rdzv-endpoint=", "--rdzv-id="


def job_argv(script: Sequence[str], nodes: int = 1, gpus: int = 0) -> list[str]:
    """``script`` with its arguments, in one process for every GPU of every node."""
    if nodes == 1 and gpus <= 1:
        return [sys.executable, *script]
    meeting = ["--standalone"]
    if nodes > 1:
        meeting = [f"--nnodes={nodes}", "--rdzv-backend=c10d", ENDPOINT, IDENTITY]
    return [
        *(sys.executable, "-m", "torch.distributed.run", *meeting, f"--nproc-per-node={max(1, gpus)}"),
        *script,
    ]


def filled_in(argv: Sequence[str]) -> list[str]:
    """The command line inside a SLURM job of several nodes; the port follows from the job's number."""
    if ENDPOINT not in argv:
        return list(argv)
    from submitit import JobEnvironment

    job = os.environ["SLURM_JOB_ID"]
    endpoint = f"{JobEnvironment().hostnames[0]}:{20000 + int(job) % 20000}"
    values = {ENDPOINT: ENDPOINT + endpoint, IDENTITY: IDENTITY + job}
    return [values.get(part, part) for part in argv]
