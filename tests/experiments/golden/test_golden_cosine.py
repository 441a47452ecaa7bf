"""The cosine schedule against its definition; parity of the trajectories on it needs wl-zhao/UniPC itself."""

import math

import torch

from experiments.golden.cosine import LAST_TIME, CosineVP


def test_levels_slopes_and_times():
    schedule, step = CosineVP(), 1e-6
    t = torch.linspace(0.02, LAST_TIME - step, 20, dtype=torch.float64)
    signal = [math.cos(math.pi / 2 * (time + 0.008) / 1.008) for time in [0.0, *t.tolist()]]
    alpha = torch.tensor(signal[1:], dtype=torch.float64) / signal[0]
    torch.testing.assert_close(schedule.scale(t), alpha)
    slope = (schedule.sigma(t + step) - schedule.sigma(t - step)) / (2 * step)
    torch.testing.assert_close(schedule.sigma_derivative(t), slope, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(schedule.time(schedule.sigma(t)), t, rtol=1e-9, atol=1e-12)
