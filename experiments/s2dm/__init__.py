"""What S2-DMs measures beyond samples."""
