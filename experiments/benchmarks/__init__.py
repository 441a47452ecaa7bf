"""Speed, always as a ratio on the same work, weights and machine within one run; median of repeats."""
