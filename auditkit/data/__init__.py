"""Data sets: what they are, how files are read, split and generated."""
