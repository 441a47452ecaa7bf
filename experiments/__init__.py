"""What the papers do, built from the library: one module per kind of measurement."""
