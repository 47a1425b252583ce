"""Unlearners under test, one file each, and the controls that are meant to fail."""
