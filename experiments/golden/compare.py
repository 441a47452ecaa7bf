"""The comparison rule of the reference data: |x - ref| <= atol + rtol |ref|, everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """One output of one case.

    largest: max of |x - ref| / (atol + rtol |ref|), so 1 is the limit; inf if x cannot be compared.
    """

    case: str
    tensor: str
    largest: float
    passed: bool


def compare(name: str, x: Tensor, ref: Tensor, io_entry: Mapping[str, Any]) -> Comparison:
    """Compare x with the recorded `ref` by the tolerances of its manifest entry. name: "CASE/TENSOR".

    `atol_by_index` (one value per entry of the first axis) replaces `atol`; integers and booleans must be
    equal; another shape fails, and so does a NaN. Done in float64.
    """
    case, _, tensor = name.partition("/")
    if x.shape != ref.shape:
        return Comparison(case, tensor, math.inf, False)
    if not ref.is_floating_point():
        equal = torch.equal(x.to(ref.dtype), ref) and not x.is_floating_point()
        return Comparison(case, tensor, 0.0 if equal else math.inf, equal)
    x, ref = x.detach().to("cpu", torch.float64), ref.detach().to("cpu", torch.float64)
    atol = torch.as_tensor(io_entry.get("atol_by_index", io_entry["atol"]), dtype=torch.float64)
    limit = atol.reshape(-1, *[1] * (ref.dim() - 1)) if atol.dim() else atol
    difference = torch.where(x == ref, 0.0, (x - ref).abs())
    ratio = difference / (limit + io_entry["rtol"] * ref.abs())
    ratio = torch.where(difference == 0, 0.0, ratio).nan_to_num(nan=math.inf)
    largest = float(ratio.max()) if ratio.numel() else 0.0
    return Comparison(case, tensor, largest, largest <= 1)


def compare_outputs(
    case: str, entry: Mapping[str, Any], produced: Mapping[str, Tensor], recorded: Mapping[str, Tensor]
) -> Iterator[Comparison]:
    """Compare every output that the manifest lists; one that was not produced fails."""
    for tensor, io_entry in entry["io"].items():
        if io_entry["role"] != "output":
            continue
        if tensor in produced:
            yield compare(f"{case}/{tensor}", produced[tensor], recorded[tensor], io_entry)
        else:
            yield Comparison(case, tensor, math.inf, False)
