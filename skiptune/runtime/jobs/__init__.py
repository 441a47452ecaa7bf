"""Many commands: on this machine a few at a time, or on a cluster through SLURM."""
