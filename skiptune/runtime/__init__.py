"""Devices, distributed work, the run store, progress and tracking."""
