"""How far two rankings of blocks agree: Kendall's tau."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_agreement(a: Tensor, b: Tensor) -> Tensor:
    """Kendall's tau-b of two measures of importance ``[..., m]``, in [-1, 1], ``[...]`` float64.

    1 for equal orders, -1 for opposite ones; pairs that tie in one of them count for neither (Kendall 1945).
    0 where all blocks tie, since there is no order to agree with.
    """
    m = a.shape[-1]
    first, second = torch.triu_indices(m, m, offset=1).unbind()
    signs = [torch.sign((x[..., first] - x[..., second]).to(torch.float64)) for x in (a, b)]
    agreeing = (signs[0] * signs[1]).sum(dim=-1)
    pairs = (signs[0].abs().sum(dim=-1) * signs[1].abs().sum(dim=-1)).sqrt()
    return torch.where(pairs > 0, agreeing / pairs, 0.0)
