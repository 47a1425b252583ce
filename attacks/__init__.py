"""Attacks: pure functions from evidence to one score per system and unit, one file each."""
