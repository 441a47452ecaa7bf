"""Kinds of measurement that Skip-Tuning's tables need besides metrics of samples."""
