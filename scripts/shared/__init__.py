"""What several scripts share; the programs are one folder up."""
