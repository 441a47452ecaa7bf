"""What S2-DMs measures beside metrics of images."""
