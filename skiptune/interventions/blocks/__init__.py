"""Transformer blocks of diffusers' U-Nets: where they are, scaling their output, skipping them."""

from skiptune.interventions.blocks.find import Transformer, TransformerBlock, find_transformer_blocks
from skiptune.interventions.blocks.pruning import AttentionPruning, SkipCount, skipping
from skiptune.interventions.blocks.reweighting import BlockReweighting

__all__ = [
    "AttentionPruning", "BlockReweighting", "SkipCount", "Transformer", "TransformerBlock",
    "find_transformer_blocks", "skipping",
]  # fmt: skip
