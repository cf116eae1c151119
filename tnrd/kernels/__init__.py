"""Compute kernels: one file an operation and engine, chosen in :mod:`tnrd.kernels.dispatch`."""
