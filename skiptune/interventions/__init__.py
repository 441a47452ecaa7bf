"""Interventions: change what flows through named places of a network, inside a ``with`` block."""

from skiptune.interventions.blocks import (
    AttentionPruning,
    BlockReweighting,
    TransformerBlock,
    find_transformer_blocks,
    skipping,
)
from skiptune.interventions.build import attach_intervention
from skiptune.interventions.coefficients import TimeSchedule, Window, interpolate_rho
from skiptune.interventions.epsilon_scaling import EpsilonScaling
from skiptune.interventions.freeu import FreeU
from skiptune.interventions.norms import SkipNorms, record_skip_norms
from skiptune.interventions.sites import SkipSite, find_skip_sites, network_family
from skiptune.interventions.skip_tuning import SkipTuning

__all__ = [
    "AttentionPruning", "BlockReweighting", "EpsilonScaling", "FreeU", "SkipNorms", "SkipSite", "SkipTuning",
    "TimeSchedule", "TransformerBlock", "Window", "attach_intervention", "find_skip_sites",
    "find_transformer_blocks", "interpolate_rho", "network_family", "record_skip_norms", "skipping",
]  # fmt: skip
