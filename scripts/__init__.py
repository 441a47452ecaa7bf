"""Command-line entry points. Each first puts the repository root on the path in place of this folder."""
