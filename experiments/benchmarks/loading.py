"""Loading official files: every layout at full size, random weights, time and memory in a fresh process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.benchmarks.official_layout import write_edm, write_edm2
from experiments.benchmarks.timing import made_on
from experiments.benchmarks.torch_layouts import (
    random_state,
    write_consistency,
    write_ddim,
    write_latent,
    write_uvit,
)
from experiments.config_files import Config
from skiptune.checkpoints.building.assemble import build_empty, innermost
from skiptune.checkpoints.building.convert import convert
from skiptune.checkpoints.building.load import load_checkpoint
from skiptune.errors import SkiptuneError
from skiptune.runtime.provenance import provenance

ROOT = Path(__file__).resolve().parents[2]
TARGET = 1.2  # times the file size, of extra memory
NEEDED = 6_000_000_000  # bytes of disk: the largest file, its autoencoder, and both converted
Files = tuple[Path, Path | None]


@dataclass(frozen=True)
class System:
    """An official system.

    Attributes:
        model: its name in configs/model.
        layout: of the file, for a reader.
        write: writes such a file into a folder.
        parameters: of the network, with its class embedding and autoencoder, as counted from the official
            architectures.
        skips, equal_skips: skip connections, and those with equally many channels from both sides.
    """

    model: str
    layout: str
    write: Callable[[Config, Path], Files]
    parameters: int
    skips: int
    equal_skips: int


def edm(config: Config, folder: Path) -> Files:
    path, denoiser = folder / "network.pkl", config["denoiser"]
    write_edm(path, denoiser["class"], denoiser["kwargs"], build_empty(denoiser))
    return path, None


def edm2(config: Config, folder: Path) -> Files:
    path, denoiser = folder / "network.pkl", config["denoiser"]
    write_edm2(path, "Precond", denoiser["kwargs"], build_empty(denoiser))
    return path, None


def network(config: Config) -> dict[str, Any]:
    return random_state(innermost(build_empty(config["denoiser"])).get_submodule("model"))


def first_stage(config: Config) -> dict[str, Any]:
    return random_state(build_empty(config["denoiser"]).get_submodule("autoencoder"))


def consistency(config: Config, folder: Path) -> Files:
    write_consistency(folder / "network.pt", network(config))
    return folder / "network.pt", None


def ddim(config: Config, folder: Path) -> Files:
    state = network(config)
    write_ddim(folder / "network.ckpt", state, state)
    return folder / "network.ckpt", None


def uvit(config: Config, folder: Path) -> Files:
    write_uvit(folder / "network.pth", network(config))
    write_uvit(folder / "autoencoder.pth", first_stage(config))
    return folder / "network.pth", folder / "autoencoder.pth"


def latent(config: Config, folder: Path) -> Files:
    embedding = random_state(innermost(build_empty(config["denoiser"])).get_submodule("embedding"))
    write_latent(folder / "network.ckpt", network(config), embedding["embedding.weight"], first_stage(config))
    return folder / "network.ckpt", None


SYSTEMS = (
    System("edm_imagenet64", "NVlabs/edm pickle", edm, 295_899_267, 16, 10),
    System("edm2_img64_s", "NVlabs/edm2 pickle, float16", edm2, 280_209_381, 16, 10),
    System("cd_imagenet64_lpips", "torch zip", consistency, 295_899_267, 16, 10),
    System("uvit_imagenet256_huge", "torch zip, two files", uvit, 500_832_016 + 83_653_863, 14, 14),
    System("ldm_cin256", "Lightning zip", latent, 400_920_579 + 512_512 + 55_322_782, 12, 6),
    System("ddim_celeba", "torch zip, training state", ddim, 78_700_803, 15, 11),
)


def benchmark_loading(models: Mapping[str, Config], systems: Sequence[System] = SYSTEMS) -> dict[str, Any]:
    """Write, load, convert and load again, one system after the other; every file is deleted at once.

    Args:
        models: configurations by name.

    Raises:
        SkiptuneError: too little disk space, or a network that is not as published.
    """
    report: dict[str, Any] = {"target": TARGET, "provenance": provenance("cpu"), "systems": {}}
    for system in systems:
        with tempfile.TemporaryDirectory() as folder:
            free = shutil.disk_usage(folder).free
            if free < NEEDED:
                raise SkiptuneError(
                    f"{folder} has {free / 1e9:.1f} GB free, {NEEDED / 1e9:.0f} GB are needed"
                )
            report["systems"][system.model] = measure(system, models[system.model], Path(folder))
    return report


def measure(system: System, config: Config, folder: Path) -> dict[str, Any]:
    """One system: the official file, and the same as converted safetensors."""
    path, second = system.write(config, folder)
    size = sum(file.stat().st_size for file in (path, second) if file)
    official = as_published(system, probe(path, config["denoiser"], second))
    checkpoint = load_checkpoint(path, config["denoiser"], second)
    target = folder / "converted.safetensors"
    convert(checkpoint, target)
    converted_size = target.stat().st_size
    converted = as_published(system, probe(target, None, None))
    return {
        "layout": system.layout,
        "bytes": size,
        "parameters": system.parameters,
        "skips": system.skips,
        "equal_skips": system.equal_skips,
        "official": official,
        "converted_bytes": converted_size,
        "converted": converted,
    }


def as_published(system: System, result: dict[str, Any]) -> dict[str, Any]:
    """The times and bytes of a probe. Raises SkiptuneError if the loaded network is another one."""
    found = tuple(result.pop(key) for key in ("parameters", "skips", "equal_skips"))
    expected = (system.parameters, system.skips, system.equal_skips)
    if found != expected:
        raise SkiptuneError(f"{system.model} has (parameters, skips, equal) {found}, published: {expected}")
    return result


def probe(path: Path, description: Config | None, second: Path | None) -> dict[str, Any]:
    """Load in a fresh process, on one thread."""
    told = json.dumps([str(path), description, None if second is None else str(second)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "experiments.benchmarks.load_probe"]
    done = subprocess.run(command, input=told, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SkiptuneError(f"loading {path.name} failed: {reason}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def render_loading(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        "# Loading official checkpoints",
        "",
        f"{made_on(report['provenance'], ', one thread')}. Random weights in the exact official layout and "
        "size; the file is in the page cache; every load in a fresh process, imports not counted.",
        "",
        "Memory is a multiple of the file size, beyond that of the process before. Anonymous: what no other "
        "process shares and the kernel cannot drop. Resident: with the mapped pages of the file that were "
        "touched. In use: after every weight was read once.",
        "",
        "| system | layout | file, GB | parameters | skips (equal) | load, s | peak anonymous | "
        "peak resident | resident in use | converted: load, s | converted: resident in use |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, part in report["systems"].items():
        one, two = part["official"], part["converted"]
        size, other = part["bytes"], part["converted_bytes"]
        cells = [
            name,
            part["layout"],
            f"{size / 1e9:.2f}",
            f"{part['parameters']:,}",
            f"{part['skips']} ({part['equal_skips']})",
            f"{one['seconds']:.2f}",
            *(f"{one[key] / size:.2f}" for key in ("peak_anonymous", "peak_resident", "resident_in_use")),
            f"{two['seconds']:.2f}",
            f"{two['resident_in_use'] / other:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    target = report["target"]
    over = [name for name, part in report["systems"].items() if extra(part) > target]
    met = "met by all" if not over else f"missed by {', '.join(over)}"
    lines += [
        "",
        f"Target: at most {target:g} times the file size of extra resident memory at any time: {met}.",
    ]
    return "\n".join(lines) + "\n"


def extra(part: Mapping[str, Any]) -> float:
    """The most resident memory, while loading or in use, over the file size."""
    official = part["official"]
    return max(official["peak_resident"], official["resident_in_use"]) / part["bytes"]
