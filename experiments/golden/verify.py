"""Check a folder of reference data: intact files, then every listed output against its tolerance.

Which runner an entry gets is decided by what it says of its source and constructor, never by its name.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.golden.autoencoders import check_autoencoder
from experiments.golden.compare import Comparison
from experiments.golden.ddim import check_ddim_network
from experiments.golden.discrete_samplers import check_ddim_sampler, check_pndm
from experiments.golden.edm2 import check_edm2
from experiments.golden.guided import check_consistency, check_latent
from experiments.golden.ldm_sampler import check_ldm_sampler
from experiments.golden.networks import Unsupported, check_block, check_network
from experiments.golden.pickles import check_pickles
from experiments.golden.samplers import (
    check_edm_sampler,
    check_unipc_edm,
    check_unipc_edm_net,
    check_unipc_vp,
)
from experiments.golden.uvit import check_uvit
from skiptune.denoisers import PRECONDITIONINGS
from skiptune.errors import SkiptuneError

Entry = Mapping[str, Any]
Runner = Callable[[Path, Entry], Iterator[Comparison]]

EDM, UNIPC, LDM = "NVlabs/edm", "wl-zhao/UniPC", "CompVis/latent-diffusion"
NETWORKS: dict[tuple[str, str], Runner] = {
    **{(EDM, name): check_network for name in PRECONDITIONINGS},
    (EDM, "UNetBlock"): check_block,
    ("NVlabs/edm2", "Precond"): check_edm2,
    ("ermongroup/ddim", "Model"): check_ddim_network,
    ("baofff/U-ViT", "UViT"): check_uvit,
    (LDM, "VQModelInterface"): check_autoencoder,
    (LDM, "AutoencoderKL"): check_autoencoder,
    (LDM, "UNetModel"): check_latent,
    ("openai/consistency_models", "UNetModel"): check_consistency,
}
DISCRETE_SAMPLERS: dict[str, Runner] = {
    "ermongroup/ddim": check_ddim_sampler,
    "luping-liu/PNDM": check_pndm,
    LDM: check_ldm_sampler,
}
EDM_SAMPLERS = {"edm_sampler", "ablation_sampler"}


@dataclass(frozen=True)
class CaseReport:
    """The result of one entry.

    Attributes:
        status: ``pass``, ``fail`` or ``unsupported``.
        outputs: how many of the listed outputs were compared.
        largest, tensor: greatest difference in units of its tolerance, and where; ``None`` if nothing was.
        reason: of a failure or of missing support, one line.
    """

    case: str
    status: str
    outputs: int = 0
    largest: float | None = None
    tensor: str | None = None
    reason: str = ""


def read_manifest(root: Path) -> dict[str, Entry]:
    """The entries of a folder by case name.

    Raises:
        SkiptuneError: no such folder, or no manifest that lists cases.
    """
    path = root / "manifest.json"
    try:
        listed = [(entry["case"], entry) for entry in json.loads(path.read_text())["cases"]]
        entries = dict(listed)
    except OSError as error:
        raise SkiptuneError(
            f"{root} is no folder of reference data: cannot read manifest.json in it"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SkiptuneError(f"{path} is damaged, it lists no cases in the expected form") from error
    if not entries:
        raise SkiptuneError(f"{path} lists no cases")
    if len(entries) < len(listed):
        raise SkiptuneError(f"{path} lists a case twice, so one of them would not be checked")
    return entries


def verify(root: Path, cases: Sequence[str] = ()) -> Iterator[CaseReport]:
    """One report per case, in the order of the manifest; all cases unless some are named.

    Raises:
        SkiptuneError: wrong folder, or a name that is not in the manifest.
    """
    entries = read_manifest(root)
    if unknown := [case for case in cases if case not in entries]:
        known = ", ".join(entries)
        raise SkiptuneError(f"the manifest has no case {', '.join(unknown)}; it has {known}")
    for case in entries:
        if not cases or case in cases:
            yield verify_case(root, case, entries)


def verify_case(root: Path, case: str, entries: Mapping[str, Entry]) -> CaseReport:
    """Check one entry; whatever goes wrong is a failure with a reason."""
    entry = entries[case]
    try:
        if damage := damaged_file(root, entry, entries):
            return CaseReport(case, "fail", reason=damage)
        results = list(runner_for(entry, entries)(root / case, entry))
    except Unsupported as error:
        return CaseReport(case, "unsupported", reason=str(error))
    except Exception as error:  # a hidden or damaged case must not stop the others
        first = (str(error).splitlines() or [""])[0]
        kind = "" if isinstance(error, SkiptuneError) else f"{type(error).__name__}: "
        return CaseReport(case, "fail", reason=f"{kind}{first}")
    return summarise(case, entry, results)


def summarise(case: str, entry: Entry, results: Sequence[Comparison]) -> CaseReport:
    """Join the comparisons of one entry; an output that was left out fails, no outputs are no support."""
    listed = {name for name, tensor in entry.get("io", {}).items() if tensor["role"] == "output"}
    if not listed and "pickle_files" not in entry:
        return CaseReport(case, "unsupported", reason="lists no outputs")
    compared = [result for result in results if result.tensor in listed]
    missed = sorted(listed - {result.tensor for result in compared})
    failed = [result.tensor for result in results if not result.passed] + missed
    worst = max(results, key=lambda result: result.largest, default=None)
    reason = f"{len(failed)} differ or are missing: {', '.join(failed[:6])}" if failed else ""
    return CaseReport(
        case,
        "fail" if failed else "pass",
        len(compared),
        worst.largest if worst else math.inf,
        worst.tensor if worst else None,
        reason,
    )


def runner_for(entry: Entry, entries: Mapping[str, Entry]) -> Runner:
    """The runner of an entry.

    Raises:
        Unsupported: another architecture family or sampler.
        SkiptuneError: the case whose weights it uses is not listed.
    """
    if "pickle_files" in entry:
        return check_pickles
    source = entry["source"]
    repository, file = source.get("repository", EDM), source.get("file", "")
    owner = entry
    if "weights_from" in entry:
        if entry["weights_from"] not in entries:
            raise SkiptuneError(f"needs case {entry['weights_from']}, which the manifest does not list")
        owner = entries[entry["weights_from"]]
    kind = owner["constructor"].get("class")
    network = NETWORKS.get((owner["source"].get("repository", EDM), kind))
    runs = entry.get("runs", {}).values()
    if not runs and network is not None:
        return network
    if runs and repository == EDM and network is check_network and file == "generate.py":
        if {run["function"] for run in runs} <= EDM_SAMPLERS:
            return check_edm_sampler
    elif runs and repository == UNIPC:
        if network is check_network:
            return check_unipc_edm_net
        if owner is entry:
            return check_unipc_vp if any("schedule" in run for run in runs) else check_unipc_edm
    elif runs and repository in DISCRETE_SAMPLERS:
        return DISCRETE_SAMPLERS[repository]
    name = source.get("class") or source.get("function") or file
    raise Unsupported(f"family not in this version: {repository}, {name}")


def damaged_file(root: Path, entry: Entry, entries: Mapping[str, Entry]) -> str | None:
    """What is wrong with the files of an entry, or with the weights that it borrows; ``None`` if nothing."""
    files = {f"{entry['case']}/{name}": recorded for name, recorded in entry["files"].items()}
    lender = entries.get(entry.get("weights_from", ""))
    if lender is not None:
        name = "weights.safetensors"
        files[f"{lender['case']}/{name}"] = lender["files"][name]
    for name, recorded in files.items():
        path = root / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != recorded["bytes"]:
            return f"{name} has {size} bytes instead of {recorded['bytes']}"
        if hashlib.sha256(path.read_bytes()).hexdigest() != recorded["sha256"]:
            return f"{name} does not have the recorded sha256"
    return None
