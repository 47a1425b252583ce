"""Renderings of a Record; nothing is computed here."""
