"""Recommender architectures under test, one file each."""
