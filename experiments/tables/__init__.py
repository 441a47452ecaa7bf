"""Rows + records -> table, figure, verdict on a claim."""
