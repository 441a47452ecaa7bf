"""Parity with the official implementations, case by case of the reference data."""
