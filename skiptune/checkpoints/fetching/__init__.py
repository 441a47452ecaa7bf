"""From an address to a verified file on this machine."""
