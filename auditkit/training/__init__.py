"""Fitting: many members at once, compiled kernels, samplers, early stopping."""
