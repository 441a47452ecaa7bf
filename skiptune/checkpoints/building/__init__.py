"""From what a file holds to a denoiser with its weights, mapped from the file."""
