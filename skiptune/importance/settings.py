"""Every constant of the Importance Probe (Sec. III-C), with the values of the authors' program as default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skiptune.errors import SkiptuneError
from skiptune.interventions.blocks.reweighting import PARTS

Ramp = tuple[float, float]
"""Values at the two ends of a linear ramp."""

Shares = tuple[Ramp, Ramp, Ramp]
"""Probabilities that a threshold is too high, right, too low; each a ramp over the iterations."""

TEACHERS = ("ones", "start")
DRAWS = ("symmetric", "falling")


@dataclass(frozen=True)
class ThresholdRule:
    """The update by conditional expectation: ``p_high fall q + p_right q + p_low (v - gap)`` in [0, 1].

    ``v`` are the weights in force. Missing in the text (IP-A1); the defaults are those of the authors'
    program. With shares of 0 and 1 it is a plain rule, such as ``HARD``.
    """

    accepted: Shares = ((0.06, 0.06), (0.47, 0.84), (0.47, 0.10))
    rejected: Shares = ((0.48, 0.30), (0.48, 0.66), (0.04, 0.04))
    fall: float = 0.5
    gap: float = 0.01

    def __post_init__(self) -> None:
        for shares in (self.accepted, self.rejected):
            if any(abs(sum(ends) - 1) > 1e-9 or min(ends) < 0 for ends in zip(*shares, strict=True)):
                raise SkiptuneError(f"probabilities of a threshold must add up to 1, not {shares}")


# v - gap where a set was accepted, half of the threshold where none was.
HARD = ThresholdRule(((0, 0), (0, 0), (1, 1)), ((1, 1), (0, 0), (0, 0)))


@dataclass(frozen=True)
class ProbeSettings:
    """The probe's constants and readings.

    Attributes:
        runs: r, of which every block of every step gets a vote.
        iterations: per run.
        candidates: perturbed sets per iteration and step.
        seed: of all draws.
        start: range of the initial weights.
        perturbation: largest change of a weight, over the steps.
        tolerance: mean squared error of the noise prediction, over the steps.
        teacher: weights of the teacher, ``ones`` or the student's initial ones, ``start`` (IP-A5); E_0 is
            their energy.
        draws: ``symmetric`` around the best weights, or ``falling``, never above them (IP-A9).
        count_current_skips: whether the share of skipped blocks counts in the fitness of the best set so far
            as in that of a candidate; the authors' program leaves it out.
        margin: a block is skipped where ``w + margin < q``.
        part: what a weight scales, ``output`` or ``branch`` as of ``BlockReweighting`` (IP-A6).
        tie_noise: largest random change of a threshold before votes are counted.
        thresholds: their update.
    """

    runs: int = 15
    iterations: int = 20
    candidates: int = 1
    seed: int = 42
    start: Ramp = (0.995, 1.0)
    perturbation: Ramp = (0.02, 0.05)
    tolerance: Ramp = (1e-4, 2e-4)
    teacher: str = "ones"
    draws: str = "symmetric"
    count_current_skips: bool = False
    margin: float = 1e-6
    part: str = "output"
    tie_noise: float = 1e-6
    thresholds: ThresholdRule = ThresholdRule()

    def __post_init__(self) -> None:
        for name in ("runs", "iterations", "candidates"):
            refuse(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name, choices in (("teacher", TEACHERS), ("draws", DRAWS), ("part", PARTS)):
            refuse(name, getattr(self, name), getattr(self, name) in choices, f"one of {', '.join(choices)}")
        low, high = self.start
        refuse("start", self.start, 0 < low <= high <= 1, "a range inside (0, 1]")
        for name in ("perturbation", "tolerance"):
            refuse(name, getattr(self, name), min(getattr(self, name)) >= 0, "two numbers from 0 up")


def refuse(name: str, value: Any, right: bool, must: str) -> None:
    """One line unless the value is right."""
    if not right:
        raise SkiptuneError(f"{name} of the Importance Probe is {value!r}, it must be {must}")


RELEASED = ProbeSettings()
# What the text says where it differs from the program; of "several candidates" it does not say how many.
TEXT = ProbeSettings(candidates=4, start=(0.99, 1.0), teacher="start", count_current_skips=True, margin=0.0)
