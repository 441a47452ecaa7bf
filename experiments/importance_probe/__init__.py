"""What Importance Probe measures beside metrics of images."""
