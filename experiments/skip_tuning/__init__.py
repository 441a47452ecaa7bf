"""Skip-Tuning (arXiv 2402.15170): its tables and figures, one module per kind of measurement."""
