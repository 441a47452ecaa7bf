"""Where a number comes from: code, packages, device, time."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from skiptune.errors import SkiptuneError
from skiptune.runtime.distributed import world
from skiptune.runtime.workers import default_workers

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors", "pillow")
_PACKAGE_FOLDER = Path(__file__).resolve().parent.parent


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Plain values for a record: commit, packages (name -> version), python, device, started (ISO, UTC)."""
    return {
        "commit": commit(),
        "packages": package_versions(),
        "python": platform.python_version(),
        "device": device_name(device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that numbers may depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def torch_release() -> str:
    """Torch's version as far as kernels, so bits of results, are taken to change with it: "2.14"."""
    return ".".join(torch.__version__.split(".")[:2])


def commit(folder: Path = _PACKAGE_FOLDER) -> str:
    """Git commit of the repository that tracks `folder`, with `-dirty` if its code or configs are changed.

    'unknown' outside git. Changed results, figures or texts do not count: they enter no number.
    """
    # An environment inside someone else's repository is not that repository's code.
    if not _git(folder, "ls-files", "--", "."):
        return "unknown"
    sha = _git(folder, "rev-parse", "HEAD")
    if not sha:
        return "unknown"
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/*.py", ":/*.yaml")
    return f"{sha}-dirty" if changed else sha


def device(name: str) -> torch.device:
    """'cpu', 'cuda' (the GPU of this process' local rank) or 'auto' (a GPU if there is one).

    Raises SkiptuneError for another name and for 'cuda' where no GPU is usable.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise SkiptuneError(f"unknown device '{name}': use auto, cpu or cuda")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SkiptuneError("device 'cuda' was asked for but torch sees no GPU: use cpu or auto")
    local_rank = world().local_rank
    if local_rank >= torch.cuda.device_count():
        raise SkiptuneError(
            f"local rank {local_rank} has no GPU of its own, there are {torch.cuda.device_count()}: "
            "start one process a GPU"
        )
    return torch.device("cuda", local_rank)


def device_name(device: torch.device | str) -> str:
    """Model of the GPU, or of the CPU with its number of usable cores.

    Raises SkiptuneError for a GPU where there is none.
    """
    device = torch.device(device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise SkiptuneError("there is no GPU here, so none can be named; use device=cpu")
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({default_workers()} cores)"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _git(folder: Path, *arguments: str) -> str:
    # GIT_DIR and the like, set inside hooks, would point at another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        command = ["git", "-C", str(folder), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
