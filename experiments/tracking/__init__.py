"""What a tracker gets of tables."""
